// What the other files build on: chance, turns, complex numbers, colour wheels. No block of its own.

// Thirty-two well mixed bits of two whole numbers.
uint scramble(ivec2 cell) {
    uint a = uint(cell.x) * 0x9E3779B1u ^ uint(cell.y) * 0x85EBCA77u;
    a = (a ^ (a >> 15)) * 0x2C1B3C6Du;
    a = (a ^ (a >> 12)) * 0x297A2D39u;
    return a ^ (a >> 15);
}

// A number of a lattice point, 0 to 1.
float chance(vec2 cell) {
    return float(scramble(ivec2(floor(cell))) >> 8) / 16777216.0;
}

// Two numbers of a lattice point, 0 to 1.
vec2 chances(vec2 cell) {
    uint bits = scramble(ivec2(floor(cell)));
    return vec2(float(bits & 65535u), float(bits >> 16)) / 65536.0;
}

// A turn of the plane by an angle.
mat2 turned(float angle) {
    float c = cos(angle), s = sin(angle);
    return mat2(c, s, -s, c);
}

// A zigzag of period 1 between 0 and 1.
float zigzag(float x) {
    return abs(2.0 * fract(x) - 1.0);
}

// The smooth step of quintic noise.
vec2 eased(vec2 f) {
    return f * f * f * (f * (6.0 * f - 15.0) + 10.0);
}

// Product of complex numbers.
vec2 times(vec2 a, vec2 b) {
    return vec2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// Quotient of complex numbers.
vec2 over(vec2 a, vec2 b) {
    return vec2(dot(a, b), a.y * b.x - a.x * b.y) / max(dot(b, b), 1e-6);
}

// The angle of a point, -pi to pi, 0 at the origin.
float angle_of(vec2 q) {
    return abs(q.x) + abs(q.y) < 1e-6 ? 0.0 : atan(q.y, q.x);
}

// A colour from hue (turns of the painters' wheel: red, yellow at a third, green at a half, blue at two thirds), saturation and value.
vec3 tinted(vec3 hsv) {
    float t = fract(hsv.x);
    float h = t < 0.3333 ? 3.0 * t : t < 0.5 ? 6.0 * t - 1.0 : t < 0.6667 ? 10.0 * t - 3.0 : 7.0 * t - 1.0;
    vec3 wheel = clamp(abs(mod(h + vec3(0.0, 4.0, 2.0), 6.0) - 3.0) - 1.0, 0.0, 1.0);
    return hsv.z * mix(vec3(1.0), wheel * (0.85 + 0.15 * wheel), hsv.y);
}

// A minimum whose edge is rounded over the width k.
float soft_min(float a, float b, float k) {
    float h = max(k - abs(a - b), 0.0) / k;
    return min(a, b) - 0.25 * h * h * k;
}

// Value noise, 0 to 1.
float value_noise(vec2 q) {
    vec2 cell = floor(q), f = eased(q - cell);
    float low = mix(chance(cell), chance(cell + vec2(1, 0)), f.x);
    float high = mix(chance(cell + vec2(0, 1)), chance(cell + vec2(1, 1)), f.x);
    return mix(low, high, f.y);
}

// What the gradient of a lattice point gives at an offset from it.
float slope(vec2 cell, vec2 offset) {
    float angle = 6.2832 * chance(cell);
    return dot(vec2(cos(angle), sin(angle)), offset);
}

// Gradient noise, about -0.7 to 0.7.
float gradient_noise(vec2 q) {
    vec2 cell = floor(q), f = q - cell, u = eased(f);
    float low = mix(slope(cell, f), slope(cell + vec2(1, 0), f - vec2(1, 0)), u.x);
    float high = mix(slope(cell + vec2(0, 1), f - vec2(0, 1)), slope(cell + vec2(1, 1), f - vec2(1, 1)), u.x);
    return mix(low, high, u.y);
}

// Noise on a lattice of triangles, about -1 to 1.
float simplex_noise(vec2 q) {
    vec2 cell = floor(q + 0.36603 * (q.x + q.y));
    vec2 a = q - cell + 0.21132 * (cell.x + cell.y);
    vec2 middle = a.x > a.y ? vec2(1, 0) : vec2(0, 1);
    vec2 b = a - middle + 0.21132, c = a - 0.57735;
    vec3 near = max(0.5 - vec3(dot(a, a), dot(b, b), dot(c, c)), 0.0);
    near *= near;
    vec3 rise = vec3(slope(cell, a), slope(cell + middle, b), slope(cell + 1.0, c));
    return 99.0 * dot(near * near, rise);
}

// Octaves of value noise, 0 to 1.
float octaves_of(vec2 q, int octaves, float gain) {
    float sum = 0.0, weight = 1.0, total = 0.0;
    for (int i = 0; i < octaves; i++) {
        sum += weight * value_noise(q);
        total += weight;
        weight *= gain;
        q = mat2(1.6, 1.2, -1.2, 1.6) * q + 17.3;
    }
    return sum / total;
}

// The two nearest points of a jittered lattice: distances, and the cell of the nearest. `power` 1 counts blocks, 2 is Euclid's, 8 nearly the larger axis.
vec4 nearest(vec2 q, float jitter, float power) {
    vec2 cell = floor(q), found = cell;
    float first = 9.0, second = 9.0;
    for (int k = 0; k < 9 + zero; k++) {
        vec2 other = cell + vec2(k % 3 - 1, k / 3 - 1);
        vec2 wander = 0.5 + 0.5 * jitter * sin(time * 0.7 + 6.2832 * chances(other));
        vec2 d = abs(other + wander - q) + 1e-4;
        float far = power == 2.0 ? length(d) : power == 1.0 ? d.x + d.y : max(d.x, d.y);
        if (far < first) {
            second = first;
            first = far;
            found = other;
        } else {
            second = min(second, far);
        }
    }
    return vec4(first, second, found);
}
