// Fields: a number, about 0 to 1, at every point of the plane.

// Soft clouds of value noise.
float soft_clouds(vec2 q, float scale /* 1.5..5 */, int octaves /* 3..6 */, float gain /* 0.4..0.62 */, float seed /* 0..100 */) {
    return smoothstep(0.15, 0.85, octaves_of(scale * q + seed + 0.1 * time, octaves, gain));
}

// Smoke of gradient noise.
float smoke(vec2 q, float scale /* 1.2..3.5 */, int octaves /* 3..5 */, float seed /* 0..100 */) {
    float sum = 0.0, weight = 1.0;
    vec2 at = scale * q + seed;
    for (int i = 0; i < octaves; i++) {
        sum += weight * gradient_noise(at + 0.15 * time);
        weight *= 0.5;
        at = mat2(1.6, 1.2, -1.2, 1.6) * at;
    }
    return clamp(0.5 + 0.9 * sum, 0.0, 1.0);
}

// Blotches of simplex noise.
float blotches(vec2 q, float scale /* 1.2..4 */, int octaves /* 1..4 */, float sharp /* 0.2..1.2 */, float seed /* 0..100 */) {
    float sum = 0.0, weight = 1.0;
    vec2 at = scale * q + seed + vec2(0.2, -0.1) * time;
    for (int i = 0; i < octaves; i++) {
        sum += weight * simplex_noise(at);
        weight *= 0.45;
        at = mat2(1.2, 1.6, -1.6, 1.2) * at;
    }
    return smoothstep(-0.9 + 0.5 * sharp, 0.9 - 0.5 * sharp, sum);
}

// Mountain ridges.
float ridges(vec2 q, float scale /* 1..3.5 */, int octaves /* 3..6 */, float seed /* 0..100 */) {
    float sum = 0.0, weight = 0.6;
    vec2 at = scale * q + seed + 0.07 * time;
    for (int i = 0; i < octaves; i++) {
        float ridge = 1.0 - abs(2.2 * gradient_noise(at));
        sum += weight * ridge * ridge;
        weight *= 0.5;
        at = mat2(1.6, 1.2, -1.2, 1.6) * at + 3.1;
    }
    return clamp(sum * 0.95, 0.0, 1.0);
}

// Clouds that were stirred by clouds.
float stirred(vec2 q, float scale /* 1..2.6 */, int octaves /* 2..4 */, float amount /* 1..3.5 */, float seed /* 0..100 */) {
    vec2 at = scale * q + seed;
    vec2 shift = vec2(octaves_of(at + 0.12 * time, octaves, 0.5), octaves_of(at + 41.3 - 0.1 * time, octaves, 0.5));
    return smoothstep(0.2, 0.8, octaves_of(at + amount * shift, octaves, 0.5));
}

// Marble: stripes bent by clouds.
float marble(vec2 q, float stripes /* 2..7 */, float bend /* 2..7 */, int octaves /* 3..5 */, float turn /* 0..6.28 */) {
    vec2 at = turned(turn) * q;
    float x = stripes * at.x + bend * octaves_of(1.7 * at + 9.0, octaves, 0.5) + 0.4 * time;
    return pow(0.5 + 0.5 * sin(x), 1.4);
}

// Rings of a tree.
float wood(vec2 q, vec2 pith /* -1.2..1.2 */, float rings /* 4..14 */, float grain /* 0.1..0.5 */) {
    vec2 d = (q - pith) * vec2(1.0, 0.6);
    float r = rings * (length(d) + grain * octaves_of(2.0 * q + 5.0 + 0.05 * time, 3, 0.5));
    float f = fract(r);
    return 0.15 + 0.85 * f * (1.0 - smoothstep(0.8, 1.0, f));
}

// Plane waves from all sides: quasicrystals.
float crystal(vec2 q, int waves /* 3..9 */, float count /* 6..18 */, float speed /* 0.3..1.5 */, float phase /* 0..6.28 */) {
    float sum = 0.0;
    for (int i = 0; i < waves; i++) {
        float angle = 3.14159 * float(i) / float(waves) + phase;
        sum += cos(count * dot(q, vec2(cos(angle), sin(angle))) + speed * time + phase * float(i));
    }
    return 0.5 + 0.5 * sum / sqrt(float(waves)) * 0.75;
}

// Circular waves from several stones.
float stones(vec2 q, int count /* 2..6 */, float waves /* 8..26 */, float speed /* 0.5..2.5 */, float seed /* 0..100 */) {
    float sum = 0.0;
    for (int i = 0; i < count; i++) {
        vec2 at = 2.4 * (chances(vec2(i, seed)) - 0.5);
        sum += sin(waves * length(q - at) - speed * time);
    }
    return 0.5 + 0.5 * sum / sqrt(float(count)) * 0.8;
}

// Sums of sines of sines.
float plasma(vec2 q, vec3 counts /* 1.5..6 */, float turn /* 0..6.28 */, float speed /* 0.3..1.2 */) {
    vec2 at = turned(turn) * q;
    float a = sin(counts.x * at.x + speed * time) + sin(counts.y * at.y - 0.7 * speed * time);
    float b = sin(counts.z * (at.x + at.y) + 2.0 * a) + sin(counts.x * length(at - 0.3) + a);
    return 0.5 + 0.14 * (a + 1.6 * b);
}

// Soft chequers, twisted by their neighbours.
float chequers(vec2 q, float count /* 3..10 */, float hard /* 1..9 */, float bend /* 0..1.6 */) {
    vec2 at = count * q + bend * sin(0.6 * count * q.yx + 0.5 * time);
    return 0.5 + 0.5 * tanh(hard * sin(at.x) * sin(at.y));
}

// Arms of a galaxy.
float arms(vec2 q, int count /* 1..7 */, float pitch /* 2..9 */, float spread /* 0.2..0.8 */, float speed /* 0.3..1.5 */) {
    float r = length(q) + 0.01;
    float x = sin(float(count) * angle_of(q) + pitch * log(r) - speed * time);
    return (0.5 + 0.5 * x) * exp(-spread * r * r) + 0.25 * exp(-9.0 * r * r);
}

// Quarter circles that join at the edges of tiles.
float truchet(vec2 q, float scale /* 2..6 */, float width /* 0.08..0.3 */, float lines /* 0..1 */) {
    vec2 at = scale * q + 0.15 * time, cell = floor(at), f = at - cell;
    if (chance(cell) < 0.5) f.x = 1.0 - f.x;
    float d = min(abs(length(f) - 0.5), abs(length(f - 1.0) - 0.5));
    float line = 1.0 - smoothstep(width - 0.03, width + 0.03, d);
    return mix(line, 0.5 + 0.5 * cos(25.0 * d + time), lines);
}

// Diagonals that join at the corners of tiles: a maze.
float maze(vec2 q, float scale /* 4..10 */, float width /* 0.1..0.28 */, float slow /* 0.05..0.3 */) {
    vec2 at = scale * q + slow * time, cell = floor(at), f = at - cell;
    if (chance(cell + 3.0) < 0.5) f.x = 1.0 - f.x;
    float d = min(abs(f.x + f.y - 1.0), 1.0 - abs(f.x - f.y) * 1.0) * 0.707;
    return 1.0 - smoothstep(width - 0.06, width + 0.06, d);
}

// Light on the floor of a pool.
float caustics(vec2 q, float scale /* 2..5 */, int bounces /* 3..5 */, float speed /* 0.4..1.2 */) {
    vec2 at = scale * q, moved = at;
    float sum = 0.0;
    for (int i = 1; i <= bounces; i++) {
        float t = speed * time * (1.0 - 0.3 / float(i)) + 11.0;
        moved = at + vec2(cos(t - moved.x) + sin(t + moved.y), sin(t - moved.y) + cos(t + moved.x));
        sum += 0.06 / (abs(sin(moved.x + t) * cos(moved.y + t)) + 0.06);
    }
    return clamp(1.6 * sum / float(bounces), 0.0, 1.0);
}

// Two gratings over each other.
float moire(vec2 q, vec2 apart /* -0.3..0.3 */, float lines /* 14..36 */, float ratio /* 0.85..1.15 */) {
    vec2 shift = apart * (1.0 + 0.4 * sin(0.5 * time));
    float a = 0.5 + 0.5 * sin(lines * length(q - shift)), b = 0.5 + 0.5 * sin(lines * ratio * length(q + shift));
    return a * b * 0.7 + 0.3 * abs(a - b);
}

// A labyrinth as skins have it: waves of one length in all directions, cut at their middle.
float labyrinth(vec2 q, float count /* 9..24 */, float balance /* -0.6..0.6 */, float hard /* 1..6 */, float seed /* 0..100 */) {
    float sum = 0.0;
    for (int i = 0; i < 11 + zero; i++) {
        vec2 draw = chances(vec2(i, seed));
        float angle = 6.2832 * draw.x;
        sum += sin(count * (0.9 + 0.2 * draw.y) * dot(q, vec2(cos(angle), sin(angle))) + 40.0 * draw.y + 0.3 * time);
    }
    return 0.5 + 0.5 * tanh(hard * (0.43 * sum + balance));
}

// Threads over and under each other.
float weave(vec2 q, float count /* 3..9 */, float gap /* 0.1..0.4 */, float bend /* 0..0.2 */) {
    vec2 at = count * (q + bend * sin(3.0 * q.yx + 0.6 * time)), cell = floor(at), f = abs(at - cell - 0.5);
    bool across = mod(cell.x + cell.y, 2.0) < 0.5;
    vec2 near = across ? f : f.yx;
    float top = near.y < 0.5 - 0.5 * gap ? cos(near.y * 3.0) * (0.75 + 0.25 * cos(near.x * 6.2832)) : -1.0;
    float under = near.x < 0.5 - 0.5 * gap ? 0.55 * cos(near.x * 3.0) * (1.0 - 0.8 * (0.5 - near.y)) : 0.03;
    return top < 0.0 ? under : top;
}

// Dunes under wind.
float dunes(vec2 q, float count /* 5..14 */, float bend /* 0.3..1.4 */, float turn /* 0..6.28 */) {
    vec2 at = turned(turn) * q;
    float x = count * (at.y + bend * 0.4 * gradient_noise(1.5 * at + 4.0)) + 0.7 * sin(2.0 * at.x) + 0.4 * time;
    float f = fract(x / 6.2832);
    return f < 0.75 ? f / 0.75 : (1.0 - f) * 4.0;
}

// Lightning where noise passes zero.
float veins(vec2 q, float scale /* 1.2..3 */, int octaves /* 1..4 */, float thin /* 0.015..0.06 */, float seed /* 0..100 */) {
    float sum = 0.0, weight = 1.0;
    vec2 at = scale * q + seed + 0.1 * time;
    for (int i = 0; i < octaves; i++) {
        sum += weight * thin / (abs(gradient_noise(at)) + thin * 0.7);
        weight *= 0.6;
        at = mat2(1.2, 1.6, -1.6, 1.2) * at + 11.0;
    }
    return clamp(sum, 0.0, 1.0);
}

// Contour lines of a map.
float contours(vec2 q, float scale /* 0.8..2.4 */, float lines /* 5..16 */, float seed /* 0..100 */) {
    float h = lines * octaves_of(scale * q + seed + 0.06 * time, 3, 0.45);
    float f = abs(fract(h) - 0.5);
    return 0.6 * floor(h) / lines + 0.4 * smoothstep(0.42, 0.49, 0.5 - f + 0.42);
}

// Bands of fabric that wave.
float banners(vec2 q, float count /* 3..10 */, float wave /* 0.05..0.35 */, float speed /* 0.4..1.8 */, float turn /* 0..6.28 */) {
    vec2 at = turned(turn) * q;
    float y = at.y + wave * sin(3.0 * at.x + speed * time) + 0.5 * wave * sin(7.0 * at.x - speed * time);
    float band = floor(count * y), f = fract(count * y);
    return clamp(0.15 + 0.6 * chance(vec2(band, 9.0)) + 0.35 * sin(3.14159 * f) - 0.15 * cos(3.0 * at.x + speed * time), 0.0, 1.0);
}
