// Palettes: a colour for a number, which is about 0 to 1 but may be any.

// Three cosines with steps of their own.
vec3 cosines(float x, vec3 phase /* 0..1 */, vec3 turns /* 0.5..1.6 */, float cycle /* 0..0.15 */, float depth /* 0.35..0.5 */) {
    return 0.5 + depth * cos(6.2832 * (turns * x + phase + cycle * time));
}

// Four colours, one into the next.
vec3 gradient(float x, float hue /* 0..1 */, vec3 hues /* -0.35..0.35 */, vec3 strong /* 0.35..1 */, float bright /* 0.75..1 */) {
    x = 3.0 * (1.0 - abs(1.0 - mod(x, 2.0)));
    vec3 a = tinted(vec3(hue, strong.x, 0.2 * bright)), b = tinted(vec3(hue + hues.x, strong.y, 0.75 * bright));
    vec3 c = tinted(vec3(hue + hues.x + hues.y, strong.z, bright)), d = tinted(vec3(hue + hues.z, 0.25, bright));
    return x < 1.0 ? mix(a, b, x) : x < 2.0 ? mix(b, c, x - 1.0) : mix(c, d, clamp(x - 2.0, 0.0, 1.0));
}

// The whole wheel of hues.
vec3 wheel(float x, float hue /* 0..1 */, float turns /* 0.6..1.8 */, float strong /* 0.5..1 */, float shade /* 0..0.7 */) {
    return tinted(vec3(hue + turns * x + 0.03 * time, strong, 1.0 - shade * (0.5 + 0.5 * cos(9.0 * x))));
}

// What glows when heated, in any hue.
vec3 ember(float x, float hue /* 0..1 */, vec3 rise /* 0.5..3.5 */, float shift /* 0..0.25 */) {
    vec3 heat = pow(vec3(clamp(x, 0.0, 1.0)), rise.x * vec3(0.5, 1.1, 2.4));
    vec3 low = tinted(vec3(hue, 0.9, 1.0)), high = tinted(vec3(hue + shift, 0.6, 1.0));
    return low * heat.x * 0.75 + high * heat.y * 0.4 + vec3(0.35) * heat.z + 0.06 * tinted(vec3(hue + 0.5, 0.8, 1.0));
}

// Two inks on paper.
vec3 inks(float x, float hue /* 0..1 */, float apart /* 0.2..0.8 */, float paper /* 0.85..1 */, float cut /* 0.3..0.6 */) {
    vec3 first = tinted(vec3(hue, 0.85, 0.75)), second = tinted(vec3(hue + apart, 0.75, 0.95)), ground = tinted(vec3(hue + 0.1, 0.12, paper));
    return mix(mix(first, second, smoothstep(cut - 0.2, cut - 0.1, x)), ground, smoothstep(cut + 0.12, cut + 0.22, x));
}

// Flat steps of chance colours, as a print has them.
vec3 print(float x, float steps /* 4..9 */, float hue /* 0..1 */, float spread /* 0.15..0.7 */, float seed /* 0..100 */) {
    float step_ = floor(x * steps);
    vec2 draw = chances(vec2(step_, seed));
    return tinted(vec3(hue + spread * (draw.x - 0.5), 0.35 + 0.6 * draw.y, 0.25 + 0.75 * fract(step_ * 0.618 + draw.x)));
}

// Metal: dark, bright, dark, with a tint.
vec3 metal(float x, float hue /* 0..1 */, float strong /* 0.1..0.7 */, float bands /* 1..3 */, float sky /* 0.1..0.6 */) {
    float f = 0.5 + 0.5 * sin(6.2832 * bands * x), g = f * f * f;
    vec3 body = tinted(vec3(hue, strong, 0.15 + 0.65 * f)), shine = tinted(vec3(hue + 0.5, 0.2, 1.0));
    return mix(body, shine, g * 0.6) + sky * tinted(vec3(hue + 0.55, 0.7, 1.0)) * smoothstep(0.5, 0.0, f) * 0.5;
}

// Land and sea of a map.
vec3 atlas(float x, float hue /* 0..1 */, float shore /* 0.35..0.6 */, float land /* 0.25..0.6 */, float snow /* 0.75..0.95 */) {
    vec3 deep = tinted(vec3(hue, 0.9, 0.3)), shallow = tinted(vec3(hue, 0.6, 0.9)), green = tinted(vec3(hue + land, 0.7, 0.55));
    vec3 rock = tinted(vec3(hue + land - 0.2, 0.35, 0.7));
    vec3 sea = mix(deep, shallow, clamp(x / shore, 0.0, 1.0)), ground = mix(green, rock, clamp((x - shore) / (1.0 - shore), 0.0, 1.0));
    return mix(x < shore ? sea : ground, vec3(0.97), smoothstep(snow - 0.04, snow, x));
}

// Mother-of-pearl.
vec3 pearl(float x, float hue /* 0..1 */, float turns /* 0.6..1.6 */, float pale /* 0.25..0.6 */) {
    vec3 a = tinted(vec3(hue + turns * x, pale, 1.0)), b = tinted(vec3(hue + 0.4 - 0.7 * turns * x, pale, 0.75));
    return mix(a, b, 0.5 + 0.5 * sin(11.0 * x + 0.5 * time));
}

// Night: a dark ground, one colour that comes out of it, white at the top.
vec3 neon(float x, float hue /* 0..1 */, float second /* 0.1..0.5 */, float glow /* 1.2..2.6 */) {
    float y = clamp(x, 0.0, 1.2);
    vec3 dim = tinted(vec3(hue + second, 0.9, 0.3)) * (0.3 + y), lit = tinted(vec3(hue, 0.95, 1.0)) * pow(y, glow) * 1.2;
    return dim * 0.8 + lit + pow(y, 8.0) * 0.7;
}
