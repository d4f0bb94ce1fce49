/* softmax.c - see softmax.h. */
#include "kernels/softmax.h"

bool softmax_maximum(const struct kernels *k, const float *x, int n, float *ret_maximum,
                     int *ret_index)
{
    size_t index;
    if (!k->vec.maximum(x, (size_t)n, ret_maximum, &index))
        return false;
    *ret_index = (int)index;
    return true;
}

double softmax_exponentials(const struct kernels *k, float *y, const float *x, int n, float maximum)
{
    double sum = 0.0;
    for (int i = 0; i < n; i += SOFTMAX_BLOCK) {
        int length = n - i < SOFTMAX_BLOCK ? n - i : SOFTMAX_BLOCK;
        sum += k->vec.exp_sum(y ? y + i : NULL, x + i, maximum, (size_t)length);
    }
    return sum;
}
