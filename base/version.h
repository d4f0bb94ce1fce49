/* version.h - numbers that peers compare. */
#ifndef PACELINE_BASE_VERSION_H
#define PACELINE_BASE_VERSION_H

#define PACELINE_VERSION "0.1.0"
/* Changes when a message changes its meaning: a peer with another number is refused. */
#define PACELINE_PROTOCOL_VERSION 6
/* Changes when docs/numerics.md changes a result by one bit: such workers never mix. */
#define PACELINE_NUMERICS_VERSION 1

#endif
