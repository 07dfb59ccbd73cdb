// What makes a picture of blocks: scattered shapes, land, lit solids. `height` and `solid` stand for chosen blocks.

// A shape with outline and shadow over a ground.
vec3 laid(vec3 ground, float distance_, vec3 colour, float soft, float outline) {
    ground *= 1.0 - 0.45 * smoothstep(soft, -0.02, distance_ - 0.03);
    vec3 edge = colour * 0.35;
    vec3 body = mix(colour, edge, outline * smoothstep(-0.07, -0.04, distance_));
    return mix(ground, body, smoothstep(0.012, -0.012, distance_));
}

// Where scattered shape number i lies: centre, size, turn.
vec4 scattered(int i, float size, float seed) {
    vec2 draw = chances(vec2(i, seed)), more = chances(vec2(i, seed + 1.0));
    vec2 at = 2.2 * (draw - 0.5) + 0.12 * sin(time * (0.3 + more) + 6.2832 * draw.yx);
    return vec4(at, size * (0.5 + more.x), 6.2832 * more.y + (more.x - 0.5) * time);
}

// How far a ray from `eye` along `ray` goes until it meets the solid, `far` if it does not.
float met(vec3 eye, vec3 ray, int steps, float far) {
    float t = 0.0;
    for (int i = 0; i < steps; i++) {
        float d = solid(eye + t * ray);
        t += d;
        if (d < 0.002 * t || t > far) break;
    }
    return min(t, far);
}

// The direction in which the solid's distance grows, from four places round a point.
vec3 facing(vec3 p, float gap) {
    vec3 sum = vec3(1e-9);
    for (int i = 0; i < 4 + zero; i++) {
        vec3 corner = gap * (2.0 * vec3((i + 3) / 2 % 2, i / 2 % 2, i % 2) - 1.0);
        sum += corner * solid(p + corner);
    }
    return normalize(sum);
}

// Light on a surface: sun, sky, its own edge, and a hint of what is shut in.
vec3 lit(vec3 colour, vec3 p, vec3 normal, vec3 ray, vec3 sun, float gloss) {
    float day = max(dot(normal, sun), 0.0), sky = 0.5 + 0.5 * normal.y, rim = pow(1.0 - max(dot(normal, -ray), 0.0), 3.0);
    float shine = pow(max(dot(reflect(ray, normal), sun), 0.0), 8.0 + 40.0 * gloss);
    float open = clamp(0.35 + 3.0 * solid(p + 0.22 * normal), 0.0, 1.0);
    return colour * open * (0.3 + 0.9 * day + 0.35 * sky) + gloss * shine * open + 0.3 * rim * colour.zxy * open;
}

// The height of a relief here, one pixel to the right and one pixel up. (dFdx and dFdy differ between renderers.)
vec3 heights(vec2 place) {
    vec3 found = vec3(0.0);
    for (int i = 0; i < 3 + zero; i++) {
        vec2 at = place + 2.0 / side * vec2(i == 1, i == 2);
        float own = height(seen(at), at);
        found = i == 0 ? vec3(own, found.yz) : i == 1 ? vec3(found.x, own, found.z) : vec3(found.xy, own);
    }
    return found;
}

// Relief on a flat picture, from its heights.
vec3 embossed(vec3 colour, vec3 high, float depth, float angle) {
    vec3 normal = normalize(vec3((high.x - high.yz) * side * 0.5 * depth, 1.0));
    vec3 sun = normalize(vec3(cos(angle), sin(angle), 0.9));
    float shine = pow(max(dot(reflect(vec3(0, 0, -1), normal), sun), 0.0), 24.0);
    return colour * (0.4 + 0.95 * max(dot(normal, sun), 0.0)) + 0.4 * shine;
}
