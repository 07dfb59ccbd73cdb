// Lights and lines that add up: a colour at a place, without a field.

// Sparks on rings of their own.
vec3 sparks(vec2 q, int count /* 8..24 */, float size /* 0.004..0.014 */, float hue /* 0..1 */, float spread /* 0.1..0.5 */, float speed /* 0.2..1 */) {
    vec3 sum = vec3(0.0);
    for (int i = 0; i < count; i++) {
        vec2 draw = chances(vec2(i, 3)), pace = 0.5 + chances(vec2(i, 4));
        vec2 at = 1.1 * (0.3 + draw.x) * vec2(cos(6.2832 * draw.y + speed * pace.x * time), sin(6.2832 * draw.x * 3.0 + speed * pace.y * time));
        sum += size / (dot(q - at, q - at) + 0.003) * tinted(vec3(hue + spread * (draw.x - 0.5), 0.75, 1.0));
    }
    return 1.0 - exp(-1.2 * sum);
}

// Strings that swing.
vec3 strings(vec2 q, int count /* 4..12 */, float thin /* 0.004..0.012 */, float swing /* 0.2..0.6 */, float hue /* 0..1 */, float spread /* 0.2..0.9 */) {
    vec3 sum = vec3(0.0);
    for (int i = 0; i < count; i++) {
        float k = float(i) / float(count);
        float y = q.y - swing * sin((1.5 + k) * q.x * 2.0 + 0.8 * time + 5.0 * k) * (1.2 - abs(q.x) * 0.5) - 0.7 * (k - 0.5);
        sum += thin / (abs(y) + 0.004) * tinted(vec3(hue + spread * k, 0.8, 1.0));
    }
    return 1.0 - exp(-sum);
}

// Stars in three depths, drawn towards the eye.
vec3 stars(vec2 q, float density /* 3..7 */, float speed /* 0.05..0.4 */, float hue /* 0..1 */, float size /* 0.03..0.1 */) {
    vec3 sum = 0.5 * tinted(vec3(hue, 0.8, 0.25)) * (1.2 - 0.5 * length(q));
    for (int i = 0; i < 3; i++) {
        float near = fract(float(i) / 3.0 + speed * 0.3 * time), scale = density * (1.6 - near);
        vec2 at = turned(float(i)) * q * scale + 17.0 * float(i), cell = floor(at), d = at - cell - 0.3 - 0.4 * chances(cell);
        float own = chance(cell + 70.0), r = length(d);
        float star_ = size * (0.3 + own) / (r + 0.02) * smoothstep(0.45, 0.05, r) * step(0.35, own);
        sum += star_ * 1.6 * near * (1.0 - near) * 4.0 * tinted(vec3(hue + 0.3 * own, 0.4, 1.0));
    }
    return sum;
}

// Rays from a point.
vec3 beams(vec2 q, vec2 source /* -1..1 */, int count /* 5..16 */, float hue /* 0..1 */, float spread /* 0.05..0.4 */, float speed /* 0.1..0.6 */) {
    vec2 d = q - source;
    float angle = angle_of(d), a = 0.5 + 0.5 * sin(float(count) * angle + speed * time + 2.0 * sin(2.0 * angle));
    float b = 0.5 + 0.5 * sin(float(count + 3) * angle - 1.7 * speed * time);
    float far = length(d);
    vec3 sky = tinted(vec3(hue + spread, 0.8, 0.35)), ray = tinted(vec3(hue, 0.7, 1.0));
    return sky * (1.1 - 0.3 * far) + ray * (0.55 * a * b + 0.35 * a * a) / (0.5 + far) + 0.12 / (far * far + 0.06) * tinted(vec3(hue, 0.3, 1.0));
}

// The northern lights.
vec3 aurora(vec2 q, int curtains /* 2..5 */, float hue /* 0..1 */, float spread /* 0.1..0.4 */, float ground /* -0.9..-0.3 */, float speed /* 0.2..0.8 */) {
    vec3 sum = tinted(vec3(hue + 0.5, 0.8, 0.16)) * (1.0 - 0.5 * q.y);
    for (int i = 0; i < curtains; i++) {
        float k = float(i), x = q.x * 1.5 + k * 3.7;
        float foot = -0.3 + 0.35 * k / float(curtains) + 0.3 * gradient_noise(vec2(x, 0.3 * speed * time + k)) * 2.0;
        float up = q.y - foot, fold = 0.5 + 0.5 * value_noise(vec2(9.0 * x + 2.0 * gradient_noise(vec2(3.0 * x, time * speed)), k));
        sum += tinted(vec3(hue + spread * up, 0.8, 1.0)) * fold * exp(-2.2 * max(up, 0.0)) * smoothstep(-0.06, 0.08, up) * 0.75;
    }
    float hill = ground + 0.25 * octaves_of(vec2(2.0 * q.x + 3.0, 1.0), 4, 0.5);
    return mix(sum, 0.03 * sum, smoothstep(0.01, -0.01, q.y - hill));
}

// Curves of Lissajous, drawn as dust.
vec3 lissajous(vec2 q, vec2 pace /* 1..4 */, int grains /* 12..20 */, float hue /* 0..1 */, float size /* 0.0015..0.004 */, float spread /* 0.2..1 */) {
    vec3 sum = vec3(0.02);
    for (int i = 0; i < grains; i++) {
        float k = float(i) / float(grains), s = 6.2832 * k + 0.3 * time;
        vec2 d = q - 0.85 * vec2(sin(round(pace.x) * s + 0.2 * time), cos(round(pace.y) * s));
        sum += size / (dot(d, d) + 0.0006) * tinted(vec3(hue + spread * k, 0.8, 1.0));
    }
    return 1.0 - exp(-1.5 * sum);
}

// Fireworks: every burst with its hour.
vec3 fireworks(vec2 q, int bursts /* 2..5 */, int rays /* 9..16 */, float hue /* 0..1 */, float spread /* 0.2..1 */, float fall /* 0.1..0.5 */) {
    vec3 sum = tinted(vec3(hue + 0.6, 0.8, 0.14)) * (1.0 - 0.4 * q.y);
    for (int i = 0; i < bursts; i++) {
        float hour = time * 0.35 + chance(vec2(i, 8)), age = 0.15 + 0.85 * fract(hour);
        vec2 d = q - 1.4 * (chances(vec2(i, floor(hour))) - 0.5) + vec2(0.0, fall * age * age);
        float angle = angle_of(d) / 6.2832 * float(rays), ray = abs(fract(angle + chance(vec2(i, 9))) - 0.5), r = length(d);
        float trail = smoothstep(0.75 * age, 0.4 * age, abs(r - 0.5 * age)) * exp(-26.0 * ray * ray * (0.3 + r));
        sum += trail * (1.3 - age) * tinted(vec3(hue + spread * chance(vec2(i, 10)), 0.75, 1.0)) + 0.01 / (abs(r - 0.75 * age) + 0.03) * trail;
    }
    return sum;
}
