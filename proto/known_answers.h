/* known_answers.h - what every worker's self-test must give, whatever its instruction set
 * (docs/numerics.md): the worker computes (worker/self_test.h), the coordinator judges.
 *
 * They are those of the scalar reference. tests/unit/test_self_test.c computes them anew with each
 * instruction set; with a new version of the numerics it tells the new ones. */
#ifndef PACELINE_PROTO_KNOWN_ANSWERS_H
#define PACELINE_PROTO_KNOWN_ANSWERS_H

#include <stdint.h>

enum { KNOWN_ANSWERS = 16 }; /* rounds of the self-test */

extern const uint64_t known_answers[KNOWN_ANSWERS];

#endif
