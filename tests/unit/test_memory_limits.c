/* How much memory there is, on machines that are made of files. */
#include "worker/memory_limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (INT64_C(1) << 20)

static void write_file(const char *root, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int machine_open(void **state)
{
    static char root[64];
    strcpy(root, "/tmp/test_memory_limits.XXXXXX");
    if (!mkdtemp(root))
        return -1;
    write_file(root, "proc/meminfo",
               "MemTotal:        8388608 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n");
    *state = root;
    return 0;
}

static int machine_close(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", (char *)*state);
    return system(command);
}

static void expect(const char *root, int64_t total_mib, int64_t free_mib)
{
    struct memory_limits l = memory_limits_read(root);
    assert_int_equal(l.total, total_mib * MIB);
    assert_int_equal(l.free, free_mib * MIB);
}

static void a_machine_without_groups(void **state)
{
    expect(*state, 8192, 4096);
    expect("/nowhere", 0, 0);
}

static void a_group_limits_whoever_is_below(void **state)
{
    const char *root = *state;
    write_file(root, "proc/self/cgroup", "0::/office/desk\n");
    write_file(root, "sys/fs/cgroup/office/desk/memory.max", "max\n");
    expect(root, 8192, 4096);
    write_file(root, "sys/fs/cgroup/office/memory.max", "2147483648\n");
    write_file(root, "sys/fs/cgroup/office/memory.current", "1073741824\n");
    write_file(root, "sys/fs/cgroup/office/memory.stat",
               "anon 5\nactive_file 7\ninactive_file 536870912\n");
    expect(root, 2048, 1536);
    write_file(root, "sys/fs/cgroup/office/desk/memory.max", "1073741824\n");
    write_file(root, "sys/fs/cgroup/office/desk/memory.current", "2147483648\n"); /* just lowered */
    expect(root, 1024, 0);
}

static void the_first_version_counts_too(void **state)
{
    const char *root = *state;
    write_file(root, "proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/box\n0::/\n");
    write_file(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    write_file(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
    write_file(root, "sys/fs/cgroup/memory/box/memory.limit_in_bytes", "3221225472\n");
    write_file(root, "sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1073741824\n");
    expect(root, 3072, 2048);
}

/* The group's name is the host's there, and the folder the container's own. */
static void a_container_sees_its_own_alone(void **state)
{
    const char *root = *state;
    write_file(root, "proc/self/cgroup", "0::/system.slice/docker-1.scope\n");
    write_file(root, "sys/fs/cgroup/memory.max", "1073741824\n");
    write_file(root, "sys/fs/cgroup/memory.current", "0\n");
    expect(root, 1024, 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_machine_without_groups, machine_open, machine_close),
        cmocka_unit_test_setup_teardown(a_group_limits_whoever_is_below, machine_open,
                                        machine_close),
        cmocka_unit_test_setup_teardown(the_first_version_counts_too, machine_open, machine_close),
        cmocka_unit_test_setup_teardown(a_container_sees_its_own_alone, machine_open,
                                        machine_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
