#include "cli/model_text.h"

int model_text_open(struct tokenizer **ret_tokenizer, const char *path, struct err *err)
{
    struct weight_file *file = NULL;
    int rc = weight_file_open(&file, path, err);
    if (rc == 0)
        rc = tokenizer_from_file(ret_tokenizer, file, err);
    weight_file_close(file);
    return rc;
}
