#include "worker/assignment.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

void assignment_key(const Paceline__Load *load, unsigned char ret_key[DIGEST_BYTES])
{
    const uint32_t numbers[] = {load->first_layer,   load->end_layer,   load->kv_blocks,
                                load->kv_type,       load->max_context, load->max_rows,
                                load->max_sequences, load->max_outputs, (uint32_t)load->n_digests};
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    bool ok = sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(sha, numbers, sizeof numbers) == 1 &&
              EVP_DigestUpdate(sha, load->config_sha256.data, load->config_sha256.len) == 1;
    for (size_t i = 0; ok && i < load->n_digests; i++) {
        const Paceline__TensorDigest *d = load->digests[i];
        ok = EVP_DigestUpdate(sha, d->name, strlen(d->name) + 1) == 1 &&
             EVP_DigestUpdate(sha, d->sha256.data, d->sha256.len) == 1;
    }
    if (!ok || EVP_DigestFinal_ex(sha, ret_key, NULL) != 1) {
        /* Without memory for its context the key is one of its own: nothing is shared. */
        memset(ret_key, 0, DIGEST_BYTES);
        memcpy(ret_key, &load->epoch, sizeof load->epoch);
    }
    EVP_MD_CTX_free(sha);
}

int assignment_new(struct assignment **ret_assignment, Paceline__Control *message,
                   struct made_stage *made, struct err *err)
{
    struct assignment *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, ERR_MEMORY, "no memory for an assignment");
    *a = (struct assignment){.message = message, .load = message->load, .made = made};
    *ret_assignment = a;
    return 0;
}

void assignment_free(struct assignment *a)
{
    if (!a)
        return;
    if (a->data_out)
        zmq_close(a->data_out);
    paceline__control__free_unpacked(a->message, NULL);
    assignment_let_stage_go(a->made);
    free(a);
}

struct made_stage *assignment_hold_stage(struct made_stage *made)
{
    atomic_fetch_add(&made->holders, 1);
    return made;
}

void assignment_let_stage_go(struct made_stage *made)
{
    if (!made || atomic_fetch_sub(&made->holders, 1) > 1)
        return;
    stage_free(made->stage);
    free(made->aligned);
    weight_file_close(made->weights);
    free(made);
}
