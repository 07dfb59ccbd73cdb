// What TwiGL's "geekest" programs find ready, written anew from what the functions are: constants, noise, colours, turns.
#define PI 3.141592653589793
#define PI2 6.283185307179586

// Mixed bits of a lattice point.
uint exn_bits(ivec4 cell) {
    uint a = uint(cell.x) * 0x9E3779B1u ^ uint(cell.y) * 0x85EBCA77u ^ uint(cell.z) * 0xC2B2AE3Du ^ uint(cell.w) * 0x27D4EB2Fu;
    a = (a ^ (a >> 15)) * 0x2C1B3C6Du;
    a = (a ^ (a >> 12)) * 0x297A2D39u;
    return a ^ (a >> 15);
}

// What one corner of a simplex adds: its random gradient along the offset, fading with the distance.
float exn_corner(vec4 cell, vec4 offset, float reach) {
    uint bits = exn_bits(ivec4(cell));
    vec4 gradient = vec4(bits & 255u, bits >> 8 & 255u, bits >> 16 & 255u, bits >> 24) / 127.5 - 1.0;
    float near = max(reach - dot(offset, offset), 0.0);
    return near * near * near * near * dot(gradient, offset);
}

float snoise2D(vec2 v) {
    vec2 cell = floor(v + 0.3660254 * (v.x + v.y)), x = v - cell + 0.2113249 * (cell.x + cell.y);
    vec2 corner = x.x > x.y ? vec2(1, 0) : vec2(0, 1);
    float sum = exn_corner(vec4(cell, 0, 0), vec4(x, 0, 0), 0.5);
    sum += exn_corner(vec4(cell + corner, 0, 0), vec4(x - corner + 0.2113249, 0, 0), 0.5);
    return 80.0 * (sum + exn_corner(vec4(cell + 1.0, 0, 0), vec4(x - 0.5773503, 0, 0), 0.5));
}

float snoise3D(vec3 v) {
    vec3 cell = floor(v + dot(v, vec3(1.0 / 3.0))), x = v - cell + dot(cell, vec3(1.0 / 6.0));
    vec3 larger = step(x.yzx, x), rank = larger + 1.0 - larger.zxy;
    float sum = 0.0;
    for (int k = 0; k < 4; k++) {
        vec3 corner = step(float(3 - k), rank);
        sum += exn_corner(vec4(cell + corner, 0), vec4(x - corner + float(k) / 6.0, 0), 0.6);
    }
    return 38.0 * sum;
}

float snoise4D(vec4 v) {
    vec4 cell = floor(v + dot(v, vec4(0.309017))), x = v - cell + dot(cell, vec4(0.1381966)), rank = vec4(0.0);
    for (int i = 0; i < 4; i++)
        for (int j = i + 1; j < 4; j++) {
            if (x[i] > x[j]) rank[i] += 1.0;
            else rank[j] += 1.0;
        }
    float sum = 0.0;
    for (int k = 0; k < 5; k++) {
        vec4 corner = step(float(4 - k), rank);
        sum += exn_corner(cell + corner, x - corner + 0.1381966 * float(k), 0.6);
    }
    return 32.0 * sum;
}

float fsnoise(vec2 v) {
    return fract(43758.5453 * sin(12.9898 * v.x + 78.233 * v.y));
}

float fsnoiseDigits(vec2 v) {
    return fract(437.585453 * sin(0.129898 * v.x + 0.78233 * v.y));
}

vec3 hsv(float h, float s, float v) {
    vec3 wheel = clamp(abs(6.0 * fract(h + vec3(0.0, 2.0, 1.0) / 3.0) - 3.0) - 1.0, 0.0, 1.0);
    return v * (1.0 - s + s * wheel);
}

mat2 rotate2D(float angle) {
    float c = cos(angle), s = sin(angle);
    return mat2(c, s, -s, c);
}

mat3 rotate3D(float angle, vec3 axis) {
    vec3 a = normalize(axis);
    float c = cos(angle), s = sin(angle);
    mat3 outer = (1.0 - c) * mat3(a.x * a, a.y * a, a.z * a);
    return outer + mat3(c, s * a.z, -s * a.y, -s * a.z, c, s * a.x, s * a.y, -s * a.x, c);
}
