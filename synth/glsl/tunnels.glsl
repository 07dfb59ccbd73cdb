// Changes of coordinates with depth: (along, round, depth); what is deep is to be darkened.

// A round tunnel with a twist, its walls mirrored `panels` times.
vec3 round_tunnel(vec2 q, float length_ /* 0.3..1 */, int panels /* 2..8 */, float twist /* -1..1 */, float speed /* 0.2..1 */) {
    q += 0.15 * vec2(sin(0.7 * time), cos(0.5 * time));
    float depth = 1.0 / (length(q) + 0.03);
    float angle = angle_of(q) / 6.2832 + twist * 0.1 * depth;
    return vec3(length_ * depth + speed * time, 1.5 * zigzag(angle * float(panels)), depth);
}

// A shaft with flat walls.
vec3 square_tunnel(vec2 q, float length_ /* 0.4..1.2 */, float turn /* -0.5..0.5 */, float bevel /* 2..10 */, float speed /* 0.2..1 */) {
    q = turned(turn * time * 0.5) * q;
    float r = pow(pow(abs(q.x), bevel) + pow(abs(q.y), bevel), 1.0 / bevel) + 0.02;
    vec2 side = q / r;
    float along = abs(q.x) > abs(q.y) ? side.y : side.x;
    return vec3(length_ / r + speed * time, along, 1.0 / r);
}

// A whirlpool seen from above.
vec3 whirlpool(vec2 q, float pull /* 0.5..2 */, int arms /* 2..7 */, float speed /* 0.2..0.8 */, vec2 eye /* -0.3..0.3 */) {
    q -= eye;
    float r = length(q) + 0.02;
    float angle = angle_of(q) / 6.2832 - pull * log(r) * 0.3 + 0.1 * speed * time;
    return vec3(pull * log(r) * 1.3 + speed * time, 1.5 * zigzag(angle * float(arms)), 0.5 / r);
}

// Floor and ceiling that meet at the horizon.
vec3 hall(vec2 q, float height /* 0.3..1 */, float tilt /* -0.5..0.5 */, float speed /* 0.2..1.2 */) {
    q = turned(tilt) * q;
    float depth = 1.0 / (abs(q.y) + 0.05);
    return vec3(q.x * depth * height * 1.2, depth * height + speed * time, depth);
}
