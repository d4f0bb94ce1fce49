/* stop_signal.h - SIGINT and SIGTERM as a flag that long waits look at, so that whoever holds
 * children or half-written files can put them away. */
#ifndef PACELINE_CLI_STOP_SIGNAL_H
#define PACELINE_CLI_STOP_SIGNAL_H

#include <stdbool.h>

void stop_signal_install(void);
bool stop_signal_is_raised(void);
/* The same one came twice: whoever waits for an orderly end waits no longer. One of each does not
 * count: Ctrl-C reaches a script and what it started, and the script passes it on as SIGTERM. */
bool stop_signal_is_repeated(void);
/* Forgets a SIGINT: the chat stops an answer with it. SIGTERM is never forgotten. */
void stop_signal_forget(void);

#endif
