// Fields of fractals: escape times, basins and orbit traps, about 0 to 1.

// Mandelbrot's set of a power, near a point of its main body's edge.
float mandelbrot(vec2 q, int exponent /* 2..4 */, float angle /* 0.3..6 */, float zoom /* 0.04..1.1 */, int limit /* 40..90 */) {
    vec2 edge = 0.5 * vec2(cos(angle), sin(angle)) - 0.25 * vec2(cos(2.0 * angle), sin(2.0 * angle));
    vec2 c = edge * (exponent == 2 ? 1.02 : 1.15) + zoom * (turned(0.05 * time) * q), z = c;
    int n = 0;
    for (; n < limit && dot(z, z) < 64.0; n++) {
        vec2 w = z;
        for (int k = 1; k < exponent; k++) w = times(w, z);
        z = w + c;
    }
    float smooth_n = float(n) - log2(max(log2(max(dot(z, z), 4.0)) * 0.5, 1.0)) / log2(float(exponent));
    return n == limit ? 0.0 : sqrt(clamp(smooth_n / float(limit), 0.0, 1.0));
}

// Julia's sets.
float julia(vec2 q, float angle /* 0.3..6 */, float out_ /* 1.0..1.12 */, float zoom /* 0.5..1.5 */, int limit /* 40..80 */) {
    float at = angle + 0.02 * sin(0.4 * time);
    vec2 c = out_ * (0.5 * vec2(cos(at), sin(at)) - 0.25 * vec2(cos(2.0 * at), sin(2.0 * at)));
    vec2 z = zoom * q;
    int n = 0;
    for (; n < limit && dot(z, z) < 64.0; n++) z = times(z, z) + c;
    float smooth_n = float(n) - log2(max(log2(max(dot(z, z), 4.0)) * 0.5, 1.0));
    return n == limit ? 0.9 * fract(3.0 * length(z)) : sqrt(clamp(smooth_n / float(limit), 0.0, 1.0));
}

// The burning ship, its masts and its relatives.
float ship(vec2 q, vec2 at /* -0.5..0.5 */, float zoom /* 0.3..1.1 */, int limit /* 30..70 */, float tricorn /* 0..1 */) {
    vec2 c = zoom * q + vec2(-0.7, -0.4) + 0.6 * at + 0.02 * sin(0.5 * time), z = c;
    int n = 0;
    for (; n < limit && dot(z, z) < 64.0; n++) {
        z = tricorn < 0.5 ? abs(z) : vec2(z.x, -z.y);
        z = times(z, z) + c;
    }
    return n == limit ? 0.05 : sqrt(float(n) / float(limit));
}

// Newton's method for z^n = 1: basins of the roots, shaded by the steps.
float newton(vec2 q, int exponent /* 3..6 */, float relax /* 0.8..1.5 */, float zoom /* 0.6..1.8 */, float turn /* 0..6.28 */) {
    vec2 z = zoom * (turned(turn + 0.1 * time) * q) + 1e-3;
    float steps = 0.0;
    for (int i = 0; i < 24 + zero; i++) {
        vec2 power_ = vec2(1, 0);
        for (int k = 1; k < exponent; k++) power_ = times(power_, z);
        vec2 move = over(times(power_, z) - vec2(1, 0), float(exponent) * power_);
        z -= relax * move;
        if (dot(move, move) < 1e-4) break;
        steps += 1.0;
    }
    float root = floor(float(exponent) * (angle_of(z) / 6.2832 + 1.0) + 0.5);
    return clamp(fract(root / float(exponent)) * 0.7 + 0.3 - 0.02 * steps * 1.2, 0.0, 1.0);
}

// How near the orbit of a Julia map comes to a cross and a circle.
float orbit_trap(vec2 q, float angle /* 0.3..6 */, vec2 cross_ /* -0.6..0.6 */, float radius /* 0.2..0.9 */, int limit /* 12..30 */) {
    float at = angle + 0.05 * sin(0.3 * time);
    vec2 c = 1.05 * (0.5 * vec2(cos(at), sin(at)) - 0.25 * vec2(cos(2.0 * at), sin(2.0 * at))), z = 1.2 * q;
    float near = 9.0;
    for (int i = 0; i < limit && dot(z, z) < 16.0; i++) {
        z = times(z, z) + c;
        vec2 d = abs(z - cross_);
        near = min(near, min(min(d.x, d.y), abs(length(z) - radius)));
    }
    return clamp(1.0 - 2.2 * sqrt(near), 0.0, 1.0);
}

// Fold, divide by the square, shift: a glowing web.
float web(vec2 q, vec2 shift /* 0.45..0.95 */, int folds_ /* 5..11 */, float zoom /* 0.5..1.5 */) {
    vec2 z = zoom * q + 0.3;
    float sum = 0.0, last = length(z);
    for (int i = 0; i < folds_; i++) {
        z = abs(z) / (dot(z, z) + 0.02) - shift - 0.02 * sin(0.4 * time);
        float now = length(z);
        sum += exp(-2.0 * abs(now - last));
        last = now;
    }
    return clamp(1.4 * sum / float(folds_), 0.0, 1.0);
}

// Circles in circles: inversions on a lattice.
float gasket(vec2 q, float size /* 1..1.5 */, int depth /* 3..7 */, float zoom /* 0.6..1.6 */) {
    vec2 z = zoom * q + 0.1 * vec2(sin(0.3 * time), cos(0.4 * time));
    float scale = 1.0, trap = 9.0;
    for (int i = 0; i < depth; i++) {
        z = 2.0 * fract(0.5 * z + 0.5) - 1.0;
        float k = size / max(dot(z, z), 0.03);
        z *= k;
        scale *= k;
        trap = min(trap, dot(z, z));
    }
    return clamp(0.35 + 0.15 * log(trap + 0.05) + 2.0 * abs(z.y) / scale * 8.0, 0.0, 1.0);
}

// A carpet of squares with holes, seen through a slow turn.
float carpet(vec2 q, int depth /* 3..6 */, float shrink /* 2.2..3.2 */, float turn /* 0..0.8 */, float fill /* 0.25..0.45 */) {
    vec2 z = q * 0.8;
    float found = 0.0, level = 1.0;
    for (int i = 0; i < depth; i++) {
        z = abs(z);
        if (z.x < z.y) z = z.yx;
        if (max(z.x, z.y) < fill && found == 0.0) found = level;
        z = turned(turn + 0.03 * time) * (z * shrink - vec2(shrink - 1.0) * 0.62);
        level *= 0.72;
    }
    return found > 0.0 ? found : 0.12 + 0.2 * clamp(length(z) * 0.2, 0.0, 1.0);
}

// A fern-like crystal: folds and turns, the distance to a line at the end.
float frost(vec2 q, int folds_ /* 4..9 */, float turn /* 0.3..1.2 */, float shrink /* 1.25..1.7 */, vec2 shift /* 0.2..0.7 */) {
    vec2 z = q;
    float scale = 1.0, near = 9.0;
    for (int i = 0; i < folds_; i++) {
        z = turned(turn + 0.04 * sin(0.5 * time)) * (abs(z) - shift);
        z *= shrink;
        scale *= shrink;
        near = min(near, (abs(z.x) + 0.02 * abs(z.y)) / scale);
    }
    return clamp(exp(-14.0 * near) + 0.25 * exp(-2.0 * length(z) / scale), 0.0, 1.0);
}

// Sines fed back into themselves: a strange attractor's tide.
float tide(vec2 q, vec2 a /* 1..2.6 */, vec2 b /* -1.5..1.5 */, int steps /* 3..8 */) {
    vec2 z = 1.3 * q;
    float sum = 0.0;
    for (int i = 0; i < steps; i++) {
        z = vec2(sin(a.x * z.y + 0.1 * time) + b.x * cos(a.x * z.x), sin(a.y * z.x) + b.y * cos(a.y * z.y - 0.1 * time));
        sum += exp(-dot(z, z));
    }
    return clamp(0.25 + 0.25 * z.x + 0.5 * sum / float(steps) * 1.6, 0.0, 1.0);
}
