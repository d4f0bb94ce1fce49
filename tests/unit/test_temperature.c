/* Sensors as kernels show them, in folders made for the test. */
#include "worker/temperature.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { ZERO_CELSIUS_MK = 273150 };

static void put(const char *sys, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", sys, name);
    for (char *p = path + strlen(sys) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = '\0';
        mkdir(path, 0755);
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int drop(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about, (void)kind, (void)where;
    return remove(path);
}

static int open_sys(void **state)
{
    static char sys[64];
    strcpy(sys, "/tmp/temperature-XXXXXX");
    *state = mkdtemp(sys);
    return *state ? 0 : -1;
}

static int close_sys(void **state)
{
    return nftw(*state, drop, 16, FTW_DEPTH | FTW_PHYS);
}

static void test_nothing(void **state)
{
    assert_int_equal(temperature_read("/nowhere/at/all"), 0);
    assert_int_equal(temperature_read(*state), 0);
}

static void test_drivers(void **state)
{
    const char *sys = *state;
    put(sys, "thermal/thermal_zone0/type", "x86_pkg_temp\n");
    put(sys, "thermal/thermal_zone0/temp", "99000\n");
    put(sys, "hwmon/hwmon0/name", "nvme\n"); /* a disk is no processor */
    put(sys, "hwmon/hwmon0/temp1_input", "80000\n");
    put(sys, "hwmon/hwmon1/name", "coretemp\n");
    put(sys, "hwmon/hwmon1/temp1_input", "51000\n");
    put(sys, "hwmon/hwmon1/temp2_input", "61500\n");
    put(sys, "hwmon/hwmon1/temp3_input", "999000\n"); /* not connected */
    put(sys, "hwmon/hwmon1/temp4_input", "warm\n");
    put(sys, "hwmon/hwmon1/temp2_crit", "100000\n");
    put(sys, "hwmon/hwmon1/fan1_input", "90000\n");
    assert_int_equal(temperature_read(sys), ZERO_CELSIUS_MK + 61500);
}

static void test_zones(void **state)
{
    const char *sys = *state;
    put(sys, "hwmon/hwmon0/name", "nvme\n");
    put(sys, "hwmon/hwmon0/temp1_input", "80000\n");
    put(sys, "thermal/thermal_zone0/type", "cpu-thermal\n");
    put(sys, "thermal/thermal_zone0/temp", "-3250\n");
    put(sys, "thermal/thermal_zone1/type", "gpu-thermal\n");
    put(sys, "thermal/thermal_zone1/temp", "70000\n");
    put(sys, "thermal/cooling_device0/type", "Processor\n");
    assert_int_equal(temperature_read(sys), ZERO_CELSIUS_MK - 3250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing, open_sys, close_sys),
        cmocka_unit_test_setup_teardown(test_drivers, open_sys, close_sys),
        cmocka_unit_test_setup_teardown(test_zones, open_sys, close_sys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
