#include "coordinator/answer_counts.h"

void answer_counts_add(struct answer_counts *a, const char *path, int status)
{
    size_t i = 0;
    while (i < a->n && (a->list[i].path != path || a->list[i].status != status))
        i++;
    if (i == ANSWER_COUNTS)
        return;
    if (i == a->n)
        a->list[a->n++] = (struct answer_count){.path = path, .status = status};
    a->list[i].n++;
}
