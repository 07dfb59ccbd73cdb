// Tilings: the plane cut into cells. (x, y within the cell, the cell's own chance, distance from its edge), cells being about 2 wide.

// Squares.
vec4 squares(vec2 q, float scale /* 1.5..4.5 */, vec2 speed /* -0.15..0.15 */) {
    vec2 at = scale * (q + speed * time), cell = floor(at), f = 2.0 * (at - cell) - 1.0;
    return vec4(f, chance(cell), 1.0 - max(abs(f.x), abs(f.y)));
}

// Bricks, row against row.
vec4 bricks(vec2 q, float scale /* 1.5..4 */, float slide /* 0.2..0.8 */, float turn /* 0..6.28 */) {
    vec2 at = scale * (turned(turn) * q) + vec2(0.1 * time, 0.0);
    at.x += slide * floor(at.y);
    vec2 cell = floor(at), f = 2.0 * (at - cell) - 1.0;
    return vec4(f, chance(cell + 30.0), 1.0 - max(abs(f.x), abs(f.y)));
}

// A honeycomb.
vec4 hexagons(vec2 q, float scale /* 1.8..4.5 */, float turn /* 0..6.28 */, vec2 speed /* -0.15..0.15 */) {
    vec2 at = scale * (turned(turn) * q + speed * time), period = vec2(1.0, 1.7320508);
    vec2 a = mod(at, period) - 0.5 * period, b = mod(at - 0.5 * period, period) - 0.5 * period;
    vec2 d = dot(a, a) < dot(b, b) ? a : b;
    float edge = 0.5 - max(abs(d.x), dot(abs(d), vec2(0.5, 0.8660254)));
    return vec4(2.0 * d, chance(round((at - d) * 2.0) + 60.0), 2.0 * edge);
}

// Triangles.
vec4 triangles(vec2 q, float scale /* 1.2..3.2 */, float turn /* 0..6.28 */, float speed /* -0.2..0.2 */) {
    vec2 at = scale * (turned(turn) * q + speed * time);
    vec2 skew = vec2(at.x + at.y * 0.57735, at.y * 1.1547), cell = floor(skew), f = skew - cell;
    float upper = step(1.0, f.x + f.y);
    vec2 g = abs(f - upper);
    vec2 middle = upper > 0.5 ? cell + 0.66667 : cell + 0.33333;
    vec2 d = skew - middle;
    vec2 local = vec2(d.x - 0.5 * d.y, 0.8660254 * d.y);
    return vec4(3.0 * local * (upper > 0.5 ? -1.0 : 1.0), chance(cell * 2.0 + upper + 90.0), 3.0 * min(min(g.x, g.y), 1.0 - g.x - g.y));
}

// Rings cut into sectors.
vec4 sectors(vec2 q, float rings /* 2.5..6 */, int count /* 3..9 */, float speed /* -0.4..0.4 */, vec2 centre /* -0.5..0.5 */) {
    vec2 d = q - centre;
    float r = rings * length(d) * 1.2, ring = floor(r);
    float parts = float(count) * (ring + 1.0) * 0.5;
    parts = max(floor(parts), 2.0);
    float angle = fract(angle_of(d) / 6.2832 + speed * time * (mod(ring, 2.0) - 0.5) * 0.3) * parts, part = floor(angle);
    vec2 f = 2.0 * vec2(angle - part, r - ring) - 1.0;
    return vec4(f, chance(vec2(part, ring + 120.0)), 1.0 - max(abs(f.x), abs(f.y)));
}

// Squares cut into smaller squares by chance.
vec4 quarters(vec2 q, float scale /* 0.8..1.8 */, int depth /* 2..4 */, float share /* 0.35..0.7 */, vec2 speed /* -0.1..0.1 */) {
    vec2 at = scale * (q + speed * time) + 20.0;
    for (int i = 0; i < depth; i++) {
        if (chance(floor(at) + 7.0 * float(i)) > share) break;
        at *= 2.0;
    }
    vec2 cell = floor(at), f = 2.0 * (at - cell) - 1.0;
    return vec4(f, chance(cell + 150.0), 1.0 - max(abs(f.x), abs(f.y)));
}

// Lozenges with a lilt.
vec4 lozenges(vec2 q, vec2 scale /* 1.4..3.6 */, float bend /* 0..0.3 */) {
    vec2 at = scale * (q + bend * sin(2.0 * q.yx + 0.5 * time));
    vec2 skew = vec2(at.x + at.y, at.x - at.y), cell = floor(skew), f = 2.0 * (skew - cell) - 1.0;
    return vec4(f, chance(cell + 180.0), 1.0 - max(abs(f.x), abs(f.y)));
}

// Bark and scales: the cells of Voronoi.
vec4 patches(vec2 q, float scale /* 1.8..4.5 */, float jitter /* 0.3..1 */) {
    vec2 at = scale * q;
    vec4 near = nearest(at, jitter, 2.0);
    vec2 wander = 0.5 + 0.5 * jitter * sin(time * 0.7 + 6.2832 * chances(near.zw));
    return vec4(2.0 * (at - near.zw - wander), chance(near.zw + 210.0), 1.5 * (near.y - near.x));
}
