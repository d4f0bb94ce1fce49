#include "proto/known_answers.h"

const uint64_t known_answers[KNOWN_ANSWERS] = {
    0x60cc16c82245ce46u, 0x241a2da9d9ee5bf6u, 0x336630361644edbeu, 0x703b5257a8b85fb9u,
    0xac57a47b403f8c2du, 0x1553f80bc388ff71u, 0x49fdce812003888du, 0x86aead35b5f14241u,
    0xa2207632be6e62eau, 0x6abc2d09ebd59befu, 0xb724b71ab79475b4u, 0x90bb34bf6b2b1540u,
    0x8b370eee8df127e8u, 0x750d38f709648c4eu, 0x6dcc51fce4e05fb2u, 0x9f7449d2bf9d2edbu,
};
