// Solids: about the distance from a surface in space, never much more than it is. The eye looks from a few units away at the origin.

// Noise in space by the sines of a turned lattice, about -1 to 1.
float wobble_in_space(vec3 p) {
    return sin(p.x + 1.3 * sin(p.y)) * sin(p.y + 1.1 * sin(p.z)) * sin(p.z + 1.2 * sin(p.x));
}

// A turn about an axis through the origin.
vec3 tumble(vec3 p, float speed) {
    p.xz = turned(speed * time) * p.xz;
    p.xy = turned(0.7 * speed * time + 0.5) * p.xy;
    return p;
}

// A ball with bumps.
float ball(vec3 p, float radius /* 0.8..1.3 */, float bumps /* 3..9 */, float height /* 0..0.14 */, float speed /* -0.6..0.6 */) {
    return 0.7 * (length(p) - radius - height * wobble_in_space(bumps * tumble(p, speed)));
}

// A box with rounded corners, tumbling.
float box(vec3 p, vec3 half_ /* 0.5..1 */, float corner /* 0.02..0.3 */, float speed /* -0.8..0.8 */) {
    vec3 d = abs(tumble(p, speed)) - half_ + corner;
    return length(max(d, 0.0)) + min(max(d.x, max(d.y, d.z)), 0.0) - corner;
}

// A torus, perhaps twisted.
float torus(vec3 p, float radius /* 0.8..1.2 */, float width /* 0.2..0.42 */, int lobes /* 0..7 */, float speed /* -0.8..0.8 */) {
    p = tumble(p, speed);
    float angle = atan(p.z, p.x + 1e-5);
    vec2 d = turned(0.5 * float(lobes) * angle) * vec2(length(p.xz) - radius, p.y);
    return 0.55 * (length(d) - width * (1.0 + 0.3 * cos(2.0 * atan(d.y, d.x + 1e-5))));
}

// Rings within rings.
float rings(vec3 p, int count /* 2..4 */, float width /* 0.05..0.12 */, float speed /* 0.3..1 */) {
    float d = length(p) - 0.25;
    for (int i = 0; i < count; i++) {
        p.xy = turned(speed * time + 0.7) * p.xy;
        p.yz = turned(0.9 + 0.2 * time) * p.yz;
        d = min(d, length(vec2(length(p.xz) - 0.5 - 0.28 * float(i), p.y)) - width);
    }
    return 0.9 * d;
}

// Drops of quicksilver that run together.
float drops(vec3 p, int count /* 3..4 */, float size /* 0.4..0.6 */, float melt /* 0.2..0.6 */, float seed /* 0..100 */) {
    float d = 9.0;
    for (int i = 0; i < count; i++) {
        vec2 draw = chances(vec2(i, seed));
        vec3 at = 0.9 * sin(vec3(1.0, 1.3, 0.8) * time * (0.4 + draw.x) + 6.2832 * vec3(draw, draw.x + draw.y));
        d = soft_min(d, length(p - at) - size * (0.6 + 0.6 * draw.y), melt);
    }
    return d;
}

// The minimal surface of Schoen, cut by a ball.
float gyroid(vec3 p, float count /* 2.5..6 */, float thick /* 0.15..0.5 */, float cut /* 1..1.5 */, float speed /* -0.5..0.5 */) {
    vec3 at = count * tumble(p, speed);
    float sheet = abs(dot(sin(at), cos(at.yzx))) - thick;
    return max(0.6 * sheet / count, length(p) - cut);
}

// The minimal surface of Schwarz, cut by a box.
float schwarz(vec3 p, float count /* 2.5..6 */, float level /* -0.4..0.6 */, float cut /* 0.7..1 */, float speed /* -0.6..0.6 */) {
    p = tumble(p, speed);
    vec3 at = cos(count * p);
    float sheet = (at.x + at.y + at.z - level) / (1.7 * count), side = max(abs(p.x), max(abs(p.y), abs(p.z))) - cut;
    return max(0.8 * sheet, side);
}

// A cube with square holes in its holes.
float sponge(vec3 p, int depth /* 2..3 */, float hole /* 0.8..1.2 */, float speed /* -0.6..0.6 */) {
    p = tumble(p, speed);
    float d = max(abs(p.x), max(abs(p.y), abs(p.z))) - 1.0, scale = 1.0;
    for (int i = 0; i < depth; i++) {
        vec3 a = mod(p * scale, 2.0) - 1.0;
        scale *= 3.0;
        vec3 r = abs(1.0 - 3.0 * abs(a));
        float bar = min(max(r.x, r.y), min(max(r.y, r.z), max(r.z, r.x)));
        d = max(d, (hole - bar) / scale);
    }
    return 0.9 * d;
}

// A column with flutes and a twist.
float column(vec3 p, int flutes /* 3..9 */, float twist /* -2..2 */, float radius /* 0.5..0.85 */, float depth /* 0.05..0.2 */) {
    p.xy = turned(0.4) * p.xy;
    p.xz = turned(twist * p.y + 0.5 * time) * p.xz;
    float edge = radius + depth * cos(float(flutes) * atan(p.z, p.x + 1e-5)) * 0.8;
    return max(0.55 * (length(p.xz) - edge), abs(p.y) - 1.35);
}

// Two pyramids base to base, in a cage.
float crystal_(vec3 p, float size /* 0.8..1.2 */, float cage /* 0.03..0.1 */, float speed /* -0.8..0.8 */) {
    p = abs(tumble(p, speed));
    float core = (p.x + p.y + p.z - size) * 0.577;
    vec3 d = abs(p - 0.95);
    float bars = min(max(d.x, d.y), min(max(d.y, d.z), max(d.z, d.x))) - cage;
    return 0.9 * min(core, max(bars, max(p.x, max(p.y, p.z)) - 0.95 - cage));
}

// A spiral shell: balls along a curve.
float helix(vec3 p, float turns /* 3..7 */, float radius /* 0.6..0.9 */, float width /* 0.12..0.26 */, float speed /* -1..1 */) {
    p.xy = turned(0.6) * p.xy;
    float angle = atan(p.z, p.x + 1e-5) + turns * p.y - speed * time;
    float d = length(vec2(length(p.xz) - radius, (mod(angle, 6.2832) - 3.14159) / turns * 0.9)) - width;
    return max(0.6 * d, abs(p.y) - 1.2);
}

// A lattice of balls and bars without end.
float lattice(vec3 p, float pitch /* 1..1.8 */, float size /* 0.2..0.42 */, float bar /* 0.03..0.1 */, float speed /* 0.1..0.6 */) {
    p.z += speed * time;
    p.xy = turned(0.15 * p.z + 0.1 * time) * p.xy;
    vec3 d = mod(p + 0.5 * pitch, pitch) - 0.5 * pitch;
    float bars = min(length(d.xy), min(length(d.yz), length(d.zx))) - bar;
    return 0.75 * soft_min(length(d) - size * pitch, bars, 0.1);
}

// A town: towers of chance heights.
float town(vec3 p, float pitch /* 0.35..0.7 */, float height /* 0.4..1.2 */, float street /* 0.08..0.2 */, float speed /* 0.1..0.5 */) {
    p.z += speed * time;
    vec2 cell = floor(p.xz / pitch), f = p.xz - (cell + 0.5) * pitch;
    float top = height * (0.15 + chance(cell));
    vec3 d = vec3(abs(f) - pitch * (0.5 - street), p.y + 1.0 - top);
    float tower = length(max(d, 0.0)) + min(max(d.x, max(d.y, d.z)), 0.0);
    return min(0.7 * min(tower, pitch * 0.55), p.y + 1.0);
}

// Hills of noise.
float hills(vec3 p, float scale /* 0.5..1.2 */, float height /* 0.5..1.1 */, int octaves /* 2..4 */, float speed /* 0.1..0.5 */) {
    vec2 at = p.xz * scale + vec2(3.0, speed * time);
    return 0.5 * (p.y + 1.1 - height * octaves_of(at, octaves, 0.42));
}

// A swell at sea.
float swell(vec3 p, float scale /* 0.8..2 */, float height /* 0.12..0.3 */, int waves /* 2..4 */, float speed /* 0.5..1.5 */) {
    vec2 at = scale * p.xz;
    float sum = 0.0, weight = height;
    for (int i = 0; i < waves; i++) {
        sum += weight * (1.0 - abs(sin(at.x + speed * time + sin(at.y))));
        at = 1.5 * (turned(1.1) * at);
        weight *= 0.55;
    }
    return 0.6 * (p.y + 0.9 - sum);
}

// A field of pillars and cones, each of its kind.
float garden(vec3 p, float pitch /* 0.8..1.4 */, float size /* 0.2..0.34 */, float grow /* 0.4..1 */, float speed /* 0.1..0.5 */) {
    p.z += speed * time;
    vec2 cell = floor(p.xz / pitch), f = p.xz - (cell + 0.5) * pitch;
    float own = chance(cell + 40.0), top = grow * (0.4 + own), y = p.y + 1.0;
    float r = length(f);
    float pillar = own < 0.33 ? length(vec3(f, y - size)) - size : own < 0.66 ? 0.7 * (r - size * (1.0 - y / top)) : max(r - 0.7 * size, y - top);
    return min(0.8 * min(max(pillar, -y), pitch * 0.6), y);
}

// A cave with swollen walls.
float cave(vec3 p, float radius /* 0.9..1.4 */, float bumps /* 1.5..4 */, float height /* 0.1..0.3 */, float speed /* 0.2..0.9 */) {
    p.z += speed * time;
    p.xy -= 0.3 * vec2(sin(0.6 * p.z), cos(0.5 * p.z));
    return 0.6 * (radius + 0.3 - length(p.xy) + height * wobble_in_space(bumps * p));
}

// Folds in space: a mountain of boxes.
float bulwark(vec3 p, int folds_ /* 3..5 */, vec3 shift /* 0.35..0.75 */, float turn /* 0.2..0.9 */, float speed /* -0.5..0.5 */) {
    p = tumble(p, speed) * 0.9;
    float scale = 1.0;
    for (int i = 0; i < folds_; i++) {
        p = abs(p) - shift / scale;
        p.xy = turned(turn) * p.xy;
        p.xz = turned(0.7 * turn) * p.xz;
        scale *= 1.35;
    }
    vec3 d = abs(p) - 0.22;
    return 0.85 * (length(max(d, 0.0)) + min(max(d.x, max(d.y, d.z)), 0.0));
}
