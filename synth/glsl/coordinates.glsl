// Changes of coordinates: a point of the plane goes to another, before anything is drawn there. Numbers in /* */ are a parameter's range.

// Moves along.
vec2 drift(vec2 q, vec2 speed /* -0.25..0.25 */) {
    return q + speed * time;
}

// Turns all the time.
vec2 spin(vec2 q, float speed /* -0.5..0.5 */, vec2 pivot /* -0.5..0.5 */) {
    return turned(speed * time) * (q - pivot) + pivot;
}

// Mirrors of a kaleidoscope.
vec2 kaleidoscope(vec2 q, int wedges /* 3..9 */, float turn /* 0..6.28 */, float speed /* -0.3..0.3 */) {
    float wedge = 3.14159 / float(wedges);
    float angle = mod(angle_of(q) + 0.2 * time * speed, 2.0 * wedge);
    angle = abs(angle - wedge) + turn + speed * time;
    return length(q) * vec2(cos(angle), sin(angle)) + vec2(0.4 * sin(0.3 * time + turn), 0.3);
}

// Rings and spokes laid out straight: logarithm of the radius, mirrored angle.
vec2 log_polar(vec2 q, float rings /* 0.6..2.2 */, int spokes /* 2..10 */, float twist /* -0.6..0.6 */, float speed /* -0.5..0.5 */) {
    float depth = log(length(q) + 0.02);
    float angle = angle_of(q) / 6.2832 + twist * depth;
    return vec2(rings * depth - speed * time, 1.2 * zigzag(angle * float(spokes)));
}

// A whirl round the middle.
vec2 swirl(vec2 q, vec2 centre /* -0.4..0.4 */, float strength /* -5..5 */, float radius /* 0.4..1.2 */) {
    vec2 d = q - centre;
    return centre + turned(strength * exp(-dot(d, d) / (radius * radius)) * (1.0 + 0.3 * sin(0.6 * time))) * d;
}

// A spiral staircase: turns with the logarithm of the radius.
vec2 spiral(vec2 q, float pitch /* -2.5..2.5 */, float speed /* -0.6..0.6 */) {
    return turned(pitch * log(length(q) + 0.03) + speed * time) * q;
}

// Rings of a stone in water.
vec2 ripple(vec2 q, vec2 centre /* -0.8..0.8 */, float count /* 5..16 */, float height /* 0.02..0.09 */) {
    vec2 d = q - centre;
    float r = length(d) + 1e-4;
    return q + d / r * height * sin(count * r - 2.0 * time) / (1.0 + r);
}

// Bent by sines, again and again.
vec2 sine_bend(vec2 q, int bends /* 2..6 */, float scale /* 1.2..2.6 */, float amount /* 0.3..0.9 */, float phase /* 0..6.28 */) {
    for (int i = 1; i <= bends; i++) {
        float k = float(i);
        q += amount / k * sin(scale * k * q.yx + vec2(0.4, 0.3) * time + phase + vec2(k, 2.0 * k));
    }
    return q;
}

// Bent by noise.
vec2 noise_bend(vec2 q, float scale /* 0.8..3 */, float amount /* 0.2..0.9 */, float seed /* 0..100 */) {
    vec2 at = scale * q + seed + 0.15 * time;
    return q + amount * vec2(gradient_noise(at), gradient_noise(at + 31.7)) * 1.4;
}

// A disc onto itself: the Möbius map that brings `point` to the middle.
vec2 moebius(vec2 q, float far /* 0.2..0.7 */, float angle /* 0..6.28 */) {
    vec2 point = far * vec2(cos(angle + 0.1 * time), sin(angle + 0.1 * time));
    return over(q - point, vec2(1, 0) - times(vec2(point.x, -point.y), q) * 0.8);
}

// Inside out over a circle.
vec2 inversion(vec2 q, vec2 centre /* -0.7..0.7 */, float radius /* 0.5..1 */) {
    vec2 d = q - centre + 0.1 * vec2(sin(0.4 * time), cos(0.5 * time));
    return centre + radius * radius * d / (dot(d, d) + 0.06);
}

// Paper folded several times.
vec2 folds(vec2 q, int count /* 2..5 */, vec2 crease /* 0.2..0.6 */, float turn /* 0.3..1.4 */) {
    for (int i = 0; i < count; i++) q = turned(turn + 0.05 * time) * (abs(q) - crease) * 1.2;
    return q;
}

// Tiles, each the mirror of its neighbours.
vec2 mirror_tiles(vec2 q, float scale /* 0.8..2.2 */, vec2 speed /* -0.15..0.15 */) {
    return 2.0 * abs(fract(0.5 * scale * q + speed * time) - 0.5) * 2.0 - 1.0;
}

// Mirrors along three directions: a honeycomb of equal pictures.
vec2 honeycomb(vec2 q, float scale /* 1.2..3 */, float turn /* 0..6.28 */) {
    q *= scale;
    vec2 period = vec2(1.7320508, 3.0);
    vec2 a = mod(q, period) - 0.5 * period, b = mod(q - 0.5 * period, period) - 0.5 * period;
    vec2 d = dot(a, a) < dot(b, b) ? a : b;
    float wedge = abs(mod(angle_of(d), 1.0471976) - 0.5235988) + turn + 0.2 * time;
    return length(d) * vec2(cos(wedge), sin(wedge));
}

// Large square pixels.
vec2 mosaic(vec2 q, float count /* 10..36 */) {
    return (floor(q * count) + 0.5) / count;
}

// A glass ball or a cushion over the middle.
vec2 lens(vec2 q, float strength /* -0.45..1.6 */) {
    return q * (1.0 + strength * dot(q, q) * (1.0 + 0.2 * sin(0.7 * time)));
}

// Complex power: several turns in one.
vec2 power(vec2 q, int exponent /* 2..4 */, vec2 shift /* -0.5..0.5 */) {
    vec2 z = q;
    for (int i = 1; i < exponent; i++) z = times(z, q);
    return z + shift * (1.0 + 0.3 * sin(0.5 * time));
}

// Complex sine.
vec2 complex_sine(vec2 q, float scale /* 1..2.2 */, float speed /* -0.4..0.4 */) {
    vec2 z = scale * q + vec2(speed * time, 0.0);
    return vec2(sin(z.x) * cosh(z.y), cos(z.x) * sinh(z.y));
}

// Broken glass: every splinter shows another place.
vec2 splinters(vec2 q, float scale /* 1.2..4 */, float amount /* 0.15..0.8 */) {
    vec2 cell = nearest(scale * q, 0.9, 2.0).zw;
    return q + amount * (chances(cell + 7.0) - 0.5) + amount * 0.3 * sin(0.3 * time + 6.28 * chance(cell));
}

// Strips that slid past each other.
vec2 strips(vec2 q, float count /* 3..14 */, float amount /* 0.1..0.7 */, float turn /* 0..3.14 */) {
    q = turned(turn) * q;
    float row = floor(q.y * count);
    q.x += amount * (chance(vec2(row, 5.0)) - 0.5) * (1.0 + sin(0.5 * time + row));
    return q;
}

// The flank of a turning cylinder.
vec2 roll(vec2 q, float radius /* 1.05..1.6 */, float speed /* -0.5..0.5 */, float turn /* 0..6.28 */) {
    q = turned(turn) * q;
    return vec2(asin(clamp(q.x / radius, -1.0, 1.0)) * radius + speed * time, q.y);
}
