// Fields of cells: Voronoi's and their kin, about 0 to 1.

// Round cells, dark at their middle.
float cell_distance(vec2 q, float scale /* 2..7 */, float jitter /* 0.5..1 */, int metric /* 1..3 */) {
    return clamp(nearest(scale * q, jitter, float(metric)).x * 1.1, 0.0, 1.0);
}

// Walls between cells.
float cell_walls(vec2 q, float scale /* 2..6 */, float jitter /* 0.5..1 */, float width /* 0.05..0.25 */, int metric /* 1..3 */) {
    vec4 near = nearest(scale * q, jitter, float(metric));
    return smoothstep(0.0, width, near.y - near.x) * (0.55 + 0.45 * chance(near.zw + 2.0));
}

// Flat cells, each of its own number.
float cell_numbers(vec2 q, float scale /* 2..8 */, float jitter /* 0.3..1 */, float lead /* 0..0.08 */, int metric /* 1..3 */) {
    vec4 near = nearest(scale * q, jitter, float(metric));
    return near.y - near.x < lead ? 0.0 : 0.1 + 0.9 * chance(near.zw + 5.0);
}

// Cells of cells.
float tissue(vec2 q, float scale /* 1.5..3.5 */, float finer /* 2..4 */, float mixed /* 0.3..0.7 */) {
    vec4 large = nearest(scale * q, 0.9, 2.0), small = nearest(scale * finer * q + 0.5 * large.x, 0.9, 2.0);
    return clamp(mix(large.y - large.x, small.y - small.x, mixed) * 1.5, 0.0, 1.0);
}

// Bubbles with a bright spot.
float bubbles(vec2 q, float scale /* 2..6 */, vec2 light /* -0.3..0.3 */, float rim /* 4..14 */) {
    vec2 at = scale * q + vec2(0.0, -0.2 * time);
    vec4 near = nearest(at, 0.8, 2.0);
    float ball = clamp(1.0 - 1.9 * near.x, 0.0, 1.0);
    float spot = nearest(at + light, 0.8, 2.0).x;
    return clamp(0.5 * pow(1.0 - ball, rim * 0.4) * step(0.02, ball) + 0.35 * chance(near.zw) * step(0.02, ball) + exp(-60.0 * spot * spot), 0.0, 1.0);
}

// Cracked mud.
float cracks(vec2 q, float scale /* 1.5..4 */, float rough /* 0.1..0.4 */, float width /* 0.04..0.14 */) {
    vec2 bent = scale * q + rough * vec2(gradient_noise(5.0 * q), gradient_noise(5.0 * q + 17.0)) * 2.0;
    vec4 near = nearest(bent, 0.8, 2.0);
    float plate = 0.45 + 0.4 * chance(near.zw) + 0.25 * value_noise(12.0 * q);
    return plate * smoothstep(0.0, width, near.y - near.x);
}

// Pebbles with rounded tops.
float pebbles(vec2 q, float scale /* 2..6 */, float round_ /* 0.5..1.5 */) {
    vec4 near = nearest(scale * q + 0.1 * time, 0.85, 2.0);
    return clamp(pow(clamp(1.6 * (near.y - near.x), 0.0, 1.0), 0.5 * round_) * (0.5 + 0.5 * chance(near.zw + 8.0)), 0.0, 1.0);
}

// Cells that beat, each at its own time.
float pulses(vec2 q, float scale /* 2..6 */, float rings /* 6..22 */, float speed /* 0.5..2.5 */, int metric /* 1..3 */) {
    vec4 near = nearest(scale * q, 0.7, float(metric));
    return 0.5 + 0.5 * sin(rings * near.x - speed * time + 6.2832 * chance(near.zw + 4.0));
}

// Spots of a leopard: rings with a filling.
float rosettes(vec2 q, float scale /* 3..7 */, float size /* 0.25..0.45 */, float wobble /* 0.1..0.4 */) {
    vec2 at = scale * q + wobble * vec2(gradient_noise(9.0 * q + 0.2 * time), gradient_noise(9.0 * q + 50.0));
    float d = nearest(at, 0.7, 2.0).x;
    float ring = smoothstep(0.12, 0.05, abs(d - size)) * step(0.25, value_noise(3.0 * at + 7.0));
    return clamp(0.85 - ring * 0.8 - 0.35 * smoothstep(size, size - 0.1, d), 0.0, 1.0);
}

// Scales of a fish, row over row.
float fish_scales(vec2 q, float count /* 3..9 */, float edge /* 0.05..0.2 */, float turn /* 0..6.28 */) {
    vec2 at = turned(turn) * q * count + vec2(0.0, 0.2 * time);
    float best = 0.0, found = 0.0;
    for (int k = 1; k >= -1; k--) {
        float row = floor(at.y * 2.0) + float(k);
        float column = floor(at.x + 0.5 * mod(row, 2.0));
        vec2 d = vec2(at.x + 0.5 * mod(row, 2.0) - column - 0.5, at.y - 0.5 * row - 0.15);
        float r = length(d);
        if (r < 0.62) {
            best = 1.0 - smoothstep(0.62 - edge, 0.62, r) * 0.9 - 0.4 * r;
            found = chance(vec2(row, column));
        }
    }
    return clamp(best * (0.6 + 0.4 * found), 0.0, 1.0);
}
