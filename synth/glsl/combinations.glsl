// Two fields into one, about 0 to 1.

// A share of each.
float blend(float a, float b, float share /* 0.3..0.7 */) {
    return mix(a, b, share);
}

// Each darkens the other.
float product(float a, float b, float lift /* 0.1..0.4 */) {
    return (a + lift) * (b + lift) / (1.0 + lift);
}

// Where they differ.
float difference(float a, float b, float gain /* 1..1.8 */) {
    return clamp(gain * abs(a - b), 0.0, 1.0);
}

// The higher one.
float higher(float a, float b, float share /* 0.7..1 */) {
    return max(a, share * b);
}

// The second shows through where the first is low.
float windows(float a, float b, float level /* 0.35..0.6 */, float shade /* 0.3..0.7 */) {
    float open = smoothstep(level + 0.06, level - 0.06, a);
    return mix(a, shade * b, open);
}

// Steps of the first, shifted by the second.
float terraces(float a, float b, float steps /* 2..6 */, float shift /* 0.2..0.8 */) {
    float x = steps * a + shift * b;
    return fract(x) * smoothstep(1.0, 0.9, fract(x)) * 0.85 + 0.15 * a;
}

// Level lines of the first over the second.
float engraved(float a, float b, float lines /* 4..12 */, float thin /* 0.15..0.4 */) {
    float line = abs(fract(lines * a) - 0.5) * 2.0;
    return b * smoothstep(thin - 0.12, thin + 0.12, line);
}
