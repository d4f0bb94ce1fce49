#include "worker/worker_settings.h"

#include "base/conf_value.h"
#include "proto/beacon.h"
#include "proto/invite.h"
#include "worker/content_cache.h"
#include "worker/hours.h"
#include "worker/memory_limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LEAST_MEMORY_BYTES (1 << 20)

#define FIELD(name) offsetof(struct worker_settings, name)

static const char *const log_formats[] = {"text", "json", NULL};
static const char *const worker_policies[] = {"always", "idle", NULL};

static int worker_check_hours(const char *text, struct err *err)
{
    struct hours hours;
    return hours_read(&hours, text, err);
}

static const char *const worker_encryption[] = {"auto", "on", "off", NULL};

static int worker_check_join(const char *text, struct err *err)
{
    struct invite ignored;
    return text[0] ? invite_parse(text, &ignored, err) : 0;
}

static int worker_check_cache(const char *text, struct err *err)
{
    int64_t bytes;
    if (strcmp(text, "auto") == 0 || (conf_value_size(text, &bytes) && bytes >= 0))
        return 0;
    return err_set(err, ERR_CONFIG, "\"%.80s\" is neither a size such as 20GiB, nor 0, nor auto",
                   text);
}

static const struct conf_option worker_options[] = {
    {.name = "coordinator",
     .type = CONF_STRING,
     .offset = FIELD(coordinator),
     .check = conf_check_endpoint,
     .value = "HOST:PORT",
     .help = "cluster address of the coordinator (default: the one that it has enrolled at, else "
             "127.0.0.1:7470)"},
    {.name = "join",
     .type = CONF_STRING,
     .offset = FIELD(join),
     .check = worker_check_join,
     .value = "LINE",
     .help = "enroll with a line of \"paceline invite\"; needed once"},
    {.name = "data",
     .type = CONF_STRING,
     .offset = FIELD(data),
     .check = conf_check_endpoint,
     .value = "HOST:PORT",
     .help = "address where the neighbour upstream reaches this worker (default: the one that "
             "faces the coordinator, any free port)"},
    {.name = "advertise",
     .type = CONF_STRING,
     .offset = FIELD(advertise),
     .check = conf_check_endpoint,
     .value = "HOST:PORT",
     .help = "address to give the neighbour upstream instead, where a forwarder or a translated "
             "address stands between; port 0: that of --data"},
    {.name = "name",
     .type = CONF_STRING,
     .offset = FIELD(name),
     .value = "NAME",
     .help = "what the cluster calls this worker (default: the host's name)"},
    {.name = "models",
     .type = CONF_STRING,
     .offset = FIELD(models),
     .value = "DIR",
     .help = "folder of model files, searched by the file name that the coordinator serves "
             "(default: $PACELINE_HOME/models)"},
    {.name = "model-files",
     .type = CONF_FLAG,
     .offset = FIELD(model_files),
     .initial = "true",
     .help = "look for the model's file on this machine (default); without, weights come from the "
             "cache and the network alone"},
    {.name = "ship",
     .type = CONF_FLAG,
     .offset = FIELD(ship),
     .initial = "true",
     .help = "fetch weights that this machine does not have from the coordinator and from other "
             "workers (default)"},
    {.name = "cache",
     .type = CONF_STRING,
     .offset = FIELD(cache),
     .check = worker_check_cache,
     .value = "SIZE",
     .initial = "auto",
     .help = "disk for weights that were fetched, in $PACELINE_HOME/content, such as 20GiB; 0: "
             "none are kept; auto: a fifth of what is free"},
    {.name = "threads",
     .letter = 't',
     .type = CONF_INT,
     .offset = FIELD(threads),
     .value = "T",
     .min = 0,
     .max = 1024,
     .help = "compute threads (default 0: one for each core that it may use)"},
    {.name = "pin",
     .type = CONF_FLAG,
     .offset = FIELD(pin),
     .initial = "true",
     .help = "bind each compute thread to a core that no other worker here has (default)"},
    {.name = "numa",
     .type = CONF_FLAG,
     .offset = FIELD(numa),
     .help = "start one worker for each NUMA node, bound to its cores and memory"},
    {.name = "memory",
     .type = CONF_SIZE,
     .offset = FIELD(memory_bytes),
     .value = "SIZE",
     .help = "memory offered for weights, KV cache and scratch, such as 6GiB (default: a share of "
             "what is available)"},
    {.name = "memory-share",
     .type = CONF_INT,
     .offset = FIELD(memory_share),
     .value = "PERCENT",
     .initial = "80",
     .min = 1,
     .max = 100,
     .help = "the share of the available memory that is offered without --memory"},
    {.name = "scrub-gb-per-hour",
     .type = CONF_REAL,
     .offset = FIELD(scrub_gb_per_hour),
     .value = "GB",
     .initial = "20",
     .min = 0,
     .max = 1e6,
     .help =
         "how much of the weights is compared an hour with what was loaded, to find memory that "
         "has changed; 0: nothing"},
    {.name = "nice",
     .type = CONF_INT,
     .offset = FIELD(nice),
     .value = "N",
     .min = 0,
     .max = 19,
     .help = "give way to other programs: nice level of the whole worker"},
    {.name = "policy",
     .type = CONF_CHOICE,
     .offset = FIELD(policy_choice),
     .choices = worker_policies,
     .initial = "always",
     .help = "take part always, or only while the machine's owner is away"},
    {.name = "hours",
     .type = CONF_STRING,
     .offset = FIELD(hours),
     .check = worker_check_hours,
     .value = "HOURS",
     .help = "take part within these hours only: \"mon-fri 18:00-08:00, sat-sun\", local time"},
    {.name = "idle-load",
     .type = CONF_INT,
     .offset = FIELD(idle_load),
     .value = "PERCENT",
     .initial = "20",
     .min = 0,
     .max = 100,
     .help = "policy idle: of all processors, what other programs may use while nobody is there"},
    {.name = "idle-after",
     .type = CONF_INT,
     .offset = FIELD(idle_after_s),
     .value = "SECONDS",
     .initial = "300",
     .min = 0,
     .max = 86400,
     .help = "policy idle: how long the owner must have been away"},
    {.name = "idle-probe",
     .type = CONF_STRING,
     .offset = FIELD(idle_probe),
     .value = "COMMAND",
     .help = "policy idle: a command that is asked too, four times a second; exit status 0 means "
             "away"},
    {.name = "encryption",
     .type = CONF_CHOICE,
     .offset = FIELD(encryption_choice),
     .value = "auto|on|off",
     .initial = "auto",
     .choices = worker_encryption,
     .help = "keys for all links; auto: to the coordinator that it has enrolled at, and always "
             "beyond this machine"},
    {.name = "trust",
     .type = CONF_STRING,
     .offset = FIELD(trust),
     .value = "DIR",
     .help = "folder of keys (default: $PACELINE_HOME/trust)"},
    {.name = "beacon",
     .type = CONF_FLAG,
     .offset = FIELD(beacon),
     .initial = "true",
     .help = "find a coordinator that is not named on the local network (default)"},
    {.name = "cluster-name",
     .type = CONF_STRING,
     .offset = FIELD(cluster_name),
     .check = beacon_check_name,
     .value = "NAME",
     .initial = "paceline",
     .help = "tells clusters on one network apart"},
    {.name = "beacon-port",
     .type = CONF_INT,
     .offset = FIELD(beacon_port),
     .value = "PORT",
     .initial = "7470",
     .min = 1,
     .max = 65535,
     .help = "UDP port of beacons"},
    {.name = "measure",
     .type = CONF_STRING,
     .offset = FIELD(measure),
     .value = "MODEL",
     .help = "print how fast this machine computes layers of this model (a GGUF file or a name, "
             "as paceline plan has it) as JSON, and end",
     .command_line_only = true},
    {.name = "measure-quant",
     .type = CONF_STRING,
     .offset = FIELD(measure_quant),
     .value = "MIX",
     .initial = "Q4_K_M",
     .help = "quantization of the model to measure, if it is a name",
     .command_line_only = true},
    {.name = "insecure",
     .type = CONF_FLAG,
     .offset = FIELD(insecure),
     .help = "allow plain, keyless connections beyond this machine: on a trusted network only"},
    {.name = "verbose",
     .letter = 'v',
     .type = CONF_FLAG,
     .offset = FIELD(verbose),
     .help = "log more, such as the kernels in use"},
    {.name = "log-format",
     .type = CONF_CHOICE,
     .offset = FIELD(log_format_choice),
     .value = "text|json",
     .initial = "text",
     .choices = log_formats,
     .help = "form of the log: sentences, or one JSON object a line"},
};

const struct conf_program worker_program = {
    .name = "paceline-worker",
    .synopsis = "[OPTION...]",
    .summary = "Holds a range of a model's layers and computes them for a coordinator. It needs no "
               "other setting than an invite, once, or the coordinator's address: layers and model "
               "are given to it.",
    .epilogue = "Exit status: 0 stopped in order, 1 usage, 2 configuration, 3 model refused, "
                "4 network, 5 out of memory.\n"
                "PACELINE_ISA=scalar|avx2|avxvnni|avx512|amx|neon narrows the instruction set.",
    .file = "/etc/paceline/worker.cfg",
    .options = worker_options,
    .n_options = sizeof worker_options / sizeof worker_options[0],
};

bool worker_settings_is_wildcard(const char *host)
{
    return !host[0] || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 ||
           strcmp(host, "::") == 0;
}

static int worker_settings_check(struct worker_settings *s, struct err *err)
{
    if (s->coordinator &&
        conf_endpoint(s->coordinator, s->coordinator_host, &s->coordinator_port, err) != 0)
        return err_prefix(err, "coordinator");
    if (s->data && conf_endpoint(s->data, s->data_host, &s->data_port, err) != 0)
        return err_prefix(err, "data");
    if (s->advertise &&
        conf_endpoint(s->advertise, s->advertise_host, &s->advertise_port, err) != 0)
        return err_prefix(err, "advertise");
    if (s->advertise && worker_settings_is_wildcard(s->advertise_host))
        return err_set(err, ERR_CONFIG,
                       "advertise: '%s' is no address that another worker can connect to: name one",
                       s->advertise);
    s->cache_bytes = CONTENT_CACHE_AUTO;
    if (strcmp(s->cache, "auto") != 0)
        conf_value_size(s->cache, &s->cache_bytes);
    if (s->memory_bytes && s->memory_bytes < LEAST_MEMORY_BYTES)
        return err_set(err, ERR_CONFIG,
                       "memory: %" PRId64 " bytes are too few for any layer: give a unit, as in "
                       "%" PRId64 "GiB",
                       s->memory_bytes, s->memory_bytes);
    if (!s->memory_bytes)
        s->memory_bytes = memory_limits_read("").free / 100 * s->memory_share;
    if (s->numa && s->policy_choice == WORKER_IDLE)
        return err_set(err, ERR_CONFIG,
                       "numa and policy = \"idle\" do not go together: the workers of one machine "
                       "would take each other for its owner");
    if (!s->name) {
        char host[64] = "worker";
        gethostname(host, sizeof host - 1);
        s->name = strdup(host);
        if (!s->name)
            return err_set(err, ERR_MEMORY, "no memory for settings");
    }
    return 0;
}

int worker_settings_read(struct worker_settings *ret_settings, int argc, char **argv,
                         enum conf_outcome *ret_outcome, struct err *err)
{
    *ret_settings = (struct worker_settings){0};
    int n = 0;
    int rc = conf_read(&worker_program, ret_settings, argc, argv, NULL, &n, ret_outcome, err);
    if (rc == 0 && *ret_outcome == CONF_RUN)
        rc = worker_settings_check(ret_settings, err);
    return rc;
}

void worker_settings_clear(struct worker_settings *s)
{
    conf_clear(&worker_program, s);
}
