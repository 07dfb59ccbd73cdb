// Finishes: a colour becomes another, at a place of the picture (-1 to 1).

// Darker corners.
vec3 vignette(vec3 colour, vec2 place, float strength /* 0.15..0.45 */) {
    return colour * (1.0 - strength * dot(place, place));
}

// Lines of a screen.
vec3 scan_lines(vec3 colour, vec2 place, float count /* 25..60 */, float depth /* 0.1..0.4 */) {
    return colour * (1.0 - depth * (0.5 + 0.5 * sin(count * place.y * 3.1416 + time)));
}

// Few levels.
vec3 posterise(vec3 colour, vec2 place, int levels /* 3..6 */) {
    return floor(clamp(colour, 0.0, 0.999) * float(levels)) / float(levels - 1);
}

// More contrast.
vec3 contrast(vec3 colour, vec2 place, float amount /* 0.2..0.9 */) {
    vec3 c = clamp(colour, 0.0, 1.0);
    return mix(c, c * c * (3.0 - 2.0 * c), amount);
}

// A print of dots whose size is the brightness.
vec3 halftone(vec3 colour, vec2 place, float count /* 18..34 */, float turn /* 0..1.57 */, float paper /* 0.1..1 */) {
    vec2 f = fract(turned(turn) * place * count) - 0.5;
    float light = dot(colour, vec3(0.3, 0.59, 0.11));
    float dot_ = smoothstep(0.12, -0.12, length(f) - 0.72 * sqrt(clamp(1.05 - light, 0.0, 1.0)));
    return mix(mix(vec3(1.0), colour, 1.0 - 0.6 * paper), colour * 0.55, dot_);
}

// A hue that turns over the picture.
vec3 hue_turn(vec3 colour, vec2 place, vec2 by /* -1..1 */, float amount /* 0.3..1.2 */) {
    float angle = amount * (dot(by, place) + 0.2 * time), c = cos(angle), s = sin(angle) * 0.57735;
    float third = (1.0 - c) / 3.0;
    return mat3(c + third, third + s, third - s, third - s, c + third, third + s, third + s, third - s, c + third) * colour;
}

// A sun on it.
vec3 light_spot(vec3 colour, vec2 place, vec2 at /* -1..1 */, float hue /* 0..1 */, float strength /* 0.15..0.5 */) {
    vec2 d = place - at - 0.2 * vec2(sin(0.5 * time), cos(0.4 * time));
    return colour + strength * tinted(vec3(hue, 0.5, 1.0)) * exp(-2.5 * dot(d, d));
}

// A photograph half developed.
vec3 solarise(vec3 colour, vec2 place, float level /* 0.55..0.85 */) {
    return mix(colour, 1.0 - colour, smoothstep(level - 0.1, level + 0.1, colour)) * 1.15;
}

// A veil of one colour.
vec3 veil(vec3 colour, vec2 place, float hue /* 0..1 */, float amount /* 0.1..0.35 */, float strong /* 0.4..1 */) {
    return mix(colour, tinted(vec3(hue, strong, dot(colour, vec3(0.4)) + 0.1)), amount * 2.0);
}

// Brighter or darker as a whole.
vec3 exposure(vec3 colour, vec2 place, float gamma /* 0.7..1.35 */) {
    return pow(max(colour, 0.0), vec3(gamma));
}
