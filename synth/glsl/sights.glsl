// Sights: whole pictures of things that everybody knows, a colour at a place.

// Mountains behind mountains under a sun.
vec3 mountains(vec2 q, int ranges /* 3..7 */, float hue /* 0..1 */, float apart /* 0.2..0.7 */, float rough /* 0.4..0.55 */, vec2 sun /* -0.7..0.7 */, float speed /* 0.05..0.3 */) {
    vec3 sky = mix(tinted(vec3(hue + apart, 0.5, 1.0)), tinted(vec3(hue, 0.75, 0.75)), clamp(0.5 + 0.6 * q.y, 0.0, 1.0));
    float d = length(q - vec2(sun.x, 0.3 + 0.5 * abs(sun.y)));
    vec3 colour = sky + smoothstep(0.16, 0.14, d) * 0.6 + 0.12 / (d + 0.2);
    for (int i = 0; i < ranges; i++) {
        float k = (float(i) + 1.0) / float(ranges);
        float top = 0.35 - 1.1 * k + 0.55 * octaves_of(vec2(q.x * (0.8 + k) + speed * time * k + 9.0 * float(i), float(i)), 5, rough);
        vec3 own = mix(sky, tinted(vec3(hue + 0.15 * k, 0.8, 0.22)), 0.25 + 0.75 * k);
        colour = mix(colour, own, smoothstep(0.008, -0.008, q.y - top));
    }
    return colour;
}

// A town at night, its windows lit by chance.
vec3 skyline(vec2 q, float width /* 5..10 */, int rows /* 2..4 */, float hue /* 0..1 */, float apart /* 0.2..0.6 */, float lit_share /* 0.3..0.7 */) {
    vec3 colour = mix(tinted(vec3(hue + apart, 0.7, 0.8)), tinted(vec3(hue, 0.85, 0.2)), clamp(0.55 + 0.6 * q.y, 0.0, 1.0));
    for (int i = 0; i < rows; i++) {
        float k = float(i + 1) / float(rows), x = q.x * width * (1.4 - 0.5 * k) + 0.2 * time * k + 13.0 * float(i);
        float house = floor(x), top = 0.3 - 0.75 * k + 0.7 * chance(vec2(house, i));
        if (q.y < top) {
            vec2 at = vec2(fract(x) * 5.0, (top - q.y) * width * 2.2), f = fract(at);
            float window_ = step(0.25, f.x) * step(f.x, 0.75) * step(0.3, f.y) * step(f.y, 0.8) * step(0.5, at.x) * step(at.x, 4.5);
            float on = step(chance(vec2(house * 7.0 + floor(at.x), floor(at.y) + 50.0 * float(i) + floor(0.3 * time + 3.0 * chance(floor(at))))), lit_share);
            colour = mix(tinted(vec3(hue + 0.1 * k, 0.6, 0.3 - 0.2 * k)), tinted(vec3(hue + apart, 0.35, 1.0)), window_ * on * (0.4 + 0.6 * k));
        }
    }
    return colour;
}

// A planet of clouds with a ring, among stars.
vec3 planet(vec2 q, float radius /* 0.4..0.7 */, float hue /* 0..1 */, float bands /* 2..8 */, float bend /* 0.3..1.5 */, float tilt /* -0.6..0.6 */, float ring_ /* 0..1 */) {
    vec3 colour = vec3(0.8) * smoothstep(0.12, 0.02, length(fract(q * 7.0) - 0.2 - 0.6 * chances(q * 7.0))) * chance(q * 7.0 + 5.0) + 0.2 * tinted(vec3(hue + 0.6, 0.9, octaves_of(2.0 * q + 3.0, 4, 0.5)));
    vec2 at = turned(tilt) * q;
    float r2 = dot(at, at) / (radius * radius);
    float band = length(vec2(at.x, at.y * 3.2)) / radius;
    float hoop = ring_ * smoothstep(1.3, 1.36, band) * smoothstep(2.0, 1.9, band) * (0.45 + 0.45 * sin(24.0 * band));
    vec3 dust = tinted(vec3(hue + 0.12, 0.3, 0.95));
    if (at.y > 0.0) colour = mix(colour, dust, max(hoop, 0.0));
    if (r2 < 1.0) {
        float z = sqrt(1.0 - r2);
        vec3 normal = vec3(at / radius, z);
        float along = atan(normal.x, z) + 0.2 * time, cloud = octaves_of(vec2(2.0 * along, bands * normal.y) + bend * gradient_noise(vec2(3.0 * along, 5.0 * normal.y)), 4, 0.5);
        vec3 ground = mix(tinted(vec3(hue, 0.8, 0.5)), tinted(vec3(hue + 0.2, 0.45, 1.0)), smoothstep(0.3, 0.7, cloud));
        colour = ground * (0.08 + 1.1 * max(dot(normal, vec3(0.6, 0.5, 0.62)), 0.0)) + 0.25 * tinted(vec3(hue + 0.1, 0.6, 1.0)) * pow(1.0 - z, 3.0);
    }
    if (at.y <= 0.0) colour = mix(colour, dust, max(hoop, 0.0));
    return colour;
}

// The sun over a sea, and its road on the waves.
vec3 sea_sunset(vec2 q, float hue /* 0..1 */, float apart /* -0.3..0.3 */, float waves /* 8..22 */, float level /* -0.3..0.3 */, float sun /* -0.6..0.6 */, float size /* 0.12..0.35 */) {
    float y = q.y - level;
    vec3 sky = mix(tinted(vec3(hue, 0.6, 1.0)), tinted(vec3(hue + apart, 0.8, 0.45)), clamp(abs(y), 0.0, 1.0));
    float d = length(vec2(q.x - sun, y - 0.5 * size));
    vec3 disc_ = tinted(vec3(hue + 0.05, 0.3, 1.0));
    if (y > 0.0) {
        float cloud = smoothstep(0.5, 0.8, octaves_of(vec2(1.5 * q.x + 0.1 * time, 5.0 * y), 4, 0.5));
        vec3 colour = mix(sky, disc_, smoothstep(size, size - 0.02, d)) + 0.15 * disc_ / (d + 0.3);
        return mix(colour, tinted(vec3(hue + 0.5 * apart, 0.5, 0.8)), 0.6 * cloud);
    }
    float far = 1.0 / (0.08 - y), wave = gradient_noise(vec2(q.x * far * 0.6, waves * log(far) + 0.9 * time)) + 0.5 * gradient_noise(vec2(q.x * far * 1.7, waves * 2.0 * log(far) - time));
    float road = exp(-pow((q.x - sun) / (size * (0.8 - y)), 2.0)) * smoothstep(-0.05, 0.4, wave);
    return sky * (0.4 + 0.4 * wave) + disc_ * road * 0.9;
}

// A meadow of blades.
vec3 meadow(vec2 q, int rows /* 6..12 */, float blades /* 9..20 */, float hue /* 0..1 */, float spread /* 0.05..0.3 */, float wind /* 0.1..0.4 */) {
    vec3 colour = mix(tinted(vec3(hue + 0.4, 0.25, 1.0)), tinted(vec3(hue + 0.45, 0.6, 0.85)), 0.5 + 0.5 * q.y);
    for (int i = 0; i < rows; i++) {
        float k = float(i + 1) / float(rows), foot = 0.4 - 1.5 * k, up = q.y - foot;
        float x = q.x * blades * (1.5 - k) + 7.3 * float(i), bent = x + wind * blades * 0.4 * up * up * sin(time + 0.5 * x / blades + k);
        float own = chance(vec2(bent, i)), tall = 0.3 + 0.5 * own;
        float wide = 0.5 * (1.0 - up / tall);
        vec3 blade = tinted(vec3(hue + spread * (own - 0.5), 0.8, (0.25 + 0.65 * k) * (0.55 + up)));
        colour = up < 0.0 ? blade : mix(colour, blade, smoothstep(0.05, -0.05, abs(fract(bent) - 0.5) - wide));
    }
    return colour;
}
