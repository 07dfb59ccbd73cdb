// Shapes: about the distance from an outline, negative within; they are about 1 in radius.

// A disc.
float disc(vec2 q, float radius /* 0.5..0.85 */) {
    return length(q) - radius;
}

// A ring.
float ring(vec2 q, float radius /* 0.4..0.7 */, float width /* 0.06..0.2 */) {
    return abs(length(q) - radius) - width;
}

// A rounded rectangle.
float slab(vec2 q, vec2 half_ /* 0.3..0.75 */, float corner /* 0..0.25 */) {
    vec2 d = abs(q) - half_ + corner;
    return length(max(d, 0.0)) + min(max(d.x, d.y), 0.0) - corner;
}

// A regular polygon.
float polygon(vec2 q, int sides /* 3..8 */, float radius /* 0.5..0.8 */) {
    float wedge = 6.2832 / float(sides);
    float angle = mod(angle_of(q) + 0.5 * wedge, wedge) - 0.5 * wedge;
    return length(q) * cos(angle) - radius * cos(0.5 * wedge);
}

// A star.
float star(vec2 q, int points /* 4..9 */, float inner /* 0.3..0.65 */) {
    float wedge = 3.14159 / float(points);
    float angle = abs(mod(angle_of(q) + wedge, 2.0 * wedge) - wedge);
    vec2 at = length(q) * vec2(cos(angle), sin(angle)), tip = vec2(0.85, 0.0), notch = 0.85 * inner * vec2(cos(wedge), sin(wedge));
    vec2 side = notch - tip, normal = normalize(vec2(side.y, -side.x));
    return dot(at - tip, normal);
}

// A flower.
float flower(vec2 q, int petals /* 3..9 */, float depth /* 0.12..0.4 */, float size /* 0.5..0.7 */) {
    return 0.7 * (length(q) - size * (1.0 + depth * cos(float(petals) * angle_of(q))));
}

// A cross.
float cross_(vec2 q, float arm /* 0.14..0.32 */, float turn /* 0..1.57 */) {
    vec2 d = abs(turned(turn) * q);
    if (d.y > d.x) d = d.yx;
    return max(d.x - 0.8, d.y - arm);
}

// A crescent moon.
float moon(vec2 q, float phase /* 0.25..0.7 */, float turn /* 0..6.28 */) {
    vec2 at = turned(turn) * q;
    return max(length(at) - 0.75, 0.72 - length(at - vec2(phase, 0.0)));
}

// A heart.
float heart(vec2 q, float size /* 0.55..0.8 */) {
    vec2 at = vec2(abs(q.x), q.y + 0.2) / size;
    float y = at.y - 0.75 * sqrt(at.x + 0.02);
    return 0.6 * size * (length(vec2(at.x, y)) - 0.95);
}

// A cogwheel with a hole.
float cog(vec2 q, int teeth /* 6..14 */, float depth /* 0.06..0.16 */, float hole /* 0.12..0.35 */) {
    float r = length(q), tooth = tanh(6.0 * sin(float(teeth) * (angle_of(q) + 0.3 * time)));
    return max(0.8 * (r - 0.65 - depth * tooth), hole - r);
}

// A drop.
float drop(vec2 q, float turn /* 0..6.28 */, float long_ /* 0.4..0.9 */) {
    vec2 at = turned(turn) * q;
    float taper = clamp(at.y / long_, 0.0, 1.0);
    return 0.8 * (length(vec2(at.x, at.y - clamp(at.y, -0.2, long_))) - 0.42 * (1.0 - taper * taper));
}

// An eye: the part that two discs share, with a pupil left out.
float eye(vec2 q, float wide /* 0.3..0.6 */, float pupil /* 0.1..0.25 */) {
    float far = (0.64 - wide * wide) / (2.0 * wide);
    float lid = length(vec2(q.x, abs(q.y) + far)) - (far + wide);
    return max(lid, pupil - length(q - 0.1 * vec2(sin(time), 0.0)));
}

// A worm that winds.
float worm(vec2 q, float waves /* 3..8 */, float width /* 0.08..0.18 */) {
    float y = q.y - 0.25 * sin(waves * q.x + time);
    return max(0.7 * (abs(y) - width), abs(q.x) - 0.85);
}
