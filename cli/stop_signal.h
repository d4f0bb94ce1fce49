/* stop_signal.h - SIGINT and SIGTERM as a flag that long waits look at, so that whoever holds
 * children or half-written files can put them away. */
#ifndef PACELINE_CLI_STOP_SIGNAL_H
#define PACELINE_CLI_STOP_SIGNAL_H

#include <stdbool.h>

void stop_signal_install(void);
bool stop_signal_is_raised(void);
/* Forgets a SIGINT: the chat stops an answer with it. SIGTERM is never forgotten. */
void stop_signal_forget(void);

#endif
