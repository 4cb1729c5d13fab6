/* Sensors of PCs that are folders of files. */
#include "node/sensors.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];
static struct sensors s;
static struct sensed pc;

/* The file of this PC says so; folders on the way are made. */
static void put(const char *path, const char *text)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        (void)mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void look(uint64_t own_us, uint64_t unix_s)
{
    sensors_read(&s, own_us, unix_s, &pc);
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/sensors.XXXXXX");
    assert_non_null(mkdtemp(root));
    assert_int_equal(sensors_init(&s, root, NULL), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

/* A server, a container, a strange kernel: nothing is a reason. */
static void test_nothing(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 3; i++) look(i * 1000000, i);
    assert_false(pc.on_battery || pc.is_present || pc.is_throttled);
    assert_int_equal(pc.battery_percent, SENSED_UNKNOWN);
    assert_int_equal(pc.celsius, SENSED_UNKNOWN);
    assert_int_equal(pc.memory_wait_percent, SENSED_UNKNOWN);
    assert_int_equal(pc.others_percent, SENSED_UNKNOWN);
    assert_int_equal(pc.all, 0);
    assert_int_equal(sensors_cgroup_cores(root), 0);
}

static void test_garbage(void **state)
{
    static const char *const files[] = {
        "sys/class/power_supply/BAT0/type",
        "sys/class/power_supply/BAT0/status",
        "sys/class/hwmon/hwmon0/name",
        "sys/class/thermal/thermal_zone0/type",
        "proc/meminfo",
        "proc/stat",
        "proc/pressure/memory",
        "proc/self/cgroup",
        "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/cpu.max",
        "sys/class/drm/card0-HDMI-A-1/status",
        "run/systemd/sessions/1",
        "proc/interrupts",
        "clock",
        "sys/class/drm/card0-HDMI-A-1/dpms",
        "sys/fs/cgroup/memory.current",
    };
    static const char *const texts[] = {
        "",      "\n",          "max\n",          "-5\n", "99999999999999999999999\n",
        "cpu\n", "cpu a b c\n", "0::/../../..\n", "0::"
    };
    (void)state;
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) put(files[i], texts[t]);
        look(t, t);
        assert_false(pc.on_battery || pc.is_present);
        assert_int_equal(pc.celsius, SENSED_UNKNOWN);
        assert_int_equal(pc.all, 0);
        (void)sensors_cgroup_cores(root);
    }
    char *long_line = malloc(200000);
    assert_non_null(long_line);
    memset(long_line, '9', 199999);
    long_line[199999] = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) put(files[i], long_line);
    look(1, 1);
    free(long_line);
    assert_false(pc.on_battery);
}

static void test_power(void **state)
{
    (void)state;
    put("sys/class/power_supply/AC/type", "Mains\n");
    put("sys/class/power_supply/AC/online", "1\n");
    put("sys/class/power_supply/BAT0/type", "Battery\n");
    put("sys/class/power_supply/BAT0/status", "Charging\n");
    put("sys/class/power_supply/BAT0/capacity", "80\n");
    put("sys/class/power_supply/mouse/type", "Battery\n");
    put("sys/class/power_supply/mouse/scope", "Device\n");
    put("sys/class/power_supply/mouse/status", "Discharging\n");
    put("sys/class/power_supply/mouse/capacity", "3\n");
    look(0, 0);
    assert_false(pc.on_battery);
    assert_int_equal(pc.battery_percent, 80);
    put("sys/class/power_supply/AC/online", "0\n");
    put("sys/class/power_supply/BAT0/status", "Discharging\n");
    put("sys/class/power_supply/BAT1/type", "Battery\n");
    put("sys/class/power_supply/BAT1/status", "Not charging\n");
    put("sys/class/power_supply/BAT1/capacity", "55\n");
    look(0, 0);
    assert_true(pc.on_battery);
    assert_int_equal(pc.battery_percent, 55);
    put("sys/class/power_supply/AC/online", "1\n"); /* a weak charger */
    look(0, 0);
    assert_false(pc.on_battery);
}

static void test_heat(void **state)
{
    (void)state;
    put("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "7\n");
    put("sys/class/thermal/thermal_zone0/type", "acpitz\n"); /* whatever that is */
    put("sys/class/thermal/thermal_zone0/temp", "99000\n");
    put("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp\n");
    put("sys/class/thermal/thermal_zone1/temp", "61999\n");
    look(0, 0);
    assert_int_equal(pc.celsius, 61);
    put("sys/class/hwmon/hwmon0/name", "nvme\n");
    put("sys/class/hwmon/hwmon0/temp1_input", "95000\n");
    put("sys/class/hwmon/hwmon1/name", "coretemp\n");
    put("sys/class/hwmon/hwmon1/temp1_input", "70000\n");
    put("sys/class/hwmon/hwmon1/temp3_input", "72500\n");
    put("sys/class/hwmon/hwmon1/temp4_input", "255000\n"); /* asleep */
    look(0, 0);
    assert_int_equal(pc.celsius, 72);
    assert_false(pc.is_throttled);
    put("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "8\n");
    look(0, 0);
    assert_true(pc.is_throttled);
    look(0, 0);
    assert_false(pc.is_throttled);
}

static void test_memory(void **state)
{
    (void)state;
    put("proc/meminfo", "MemTotal:       16000 kB\nMemFree: 1 kB\nMemAvailable:    4000 kB\n");
    put("proc/pressure/memory",
        "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=50.00 avg60=0 total=1\n");
    look(0, 0);
    assert_int_equal(pc.all, 16000 * 1024);
    assert_int_equal(pc.available, 4000 * 1024);
    assert_int_equal(pc.memory_wait_percent, 12);
    put("proc/self/cgroup", "1:name=systemd:/x\n0::/home.slice/node.service\n");
    put("sys/fs/cgroup/home.slice/node.service/memory.max", "max\n");
    put("sys/fs/cgroup/home.slice/memory.max", "2048000\n");
    put("sys/fs/cgroup/home.slice/memory.current", "2000000\n");
    put("sys/fs/cgroup/home.slice/memory.stat", "anon 500000\nfile 1500000\nkernel 0\n");
    look(0, 0);
    assert_int_equal(pc.all, 2048000);
    assert_int_equal(pc.available, 1548000); /* pages of files come back */
}

static void test_cores(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/a/b\n");
    put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_int_equal(sensors_cgroup_cores(root), 0);
    put("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    assert_int_equal(sensors_cgroup_cores(root), 2);
    put("sys/fs/cgroup/a/b/cpu.max", "20000 100000\n");
    assert_int_equal(sensors_cgroup_cores(root), 1);
    put("sys/fs/cgroup/cpu.max", "1000 0\n");
    assert_int_equal(sensors_cgroup_cores(root), 1);
    put("sys/fs/cgroup/cpu.max", "9223372036854775807 9223372036854775807\n");
    assert_int_equal(sensors_cgroup_cores(root), 1);
}

/* Version 1: a folder a controller. */
static void test_old_cgroups(void **state)
{
    (void)state;
    put("proc/self/cgroup", "9:name=systemd:/s\n3:cpu,cpuacct:/c\n4:memory:/m/n\n1:cpuset:/\n");
    put("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
    assert_int_equal(sensors_cgroup_cores(root), 0);
    put("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(sensors_cgroup_cores(root), 3);
    put("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable: 4000 kB\n");
    put("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "3000000\n");
    put("sys/fs/cgroup/memory/m/memory.usage_in_bytes", "2500000\n");
    put("sys/fs/cgroup/memory/m/memory.stat", "cache 1\ntotal_cache 700000\n");
    look(0, 0);
    assert_int_equal(pc.all, 3000000);
    assert_int_equal(pc.available, 1200000);
}

static void stat_file(unsigned user, unsigned nice, unsigned system, unsigned idle)
{
    char text[128];
    snprintf(text, sizeof text, "cpu  %u %u %u %u 50 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n", user,
             nice, system, idle);
    put("proc/stat", text);
}

/* Of the time of two looks: others', without ours, nice or not. */
static void test_others(void **state)
{
    uint64_t tick_us = 1000000 / s.own_hertz;
    (void)state;
    stat_file(1000, 1000, 1000, 1000);
    look(0, 0);
    assert_int_equal(pc.others_percent, SENSED_UNKNOWN);
    stat_file(1000, 1100, 1000, 1100); /* we, nice */
    look(100 * tick_us, 2);
    assert_int_equal(pc.others_percent, 0);
    stat_file(1100, 1100, 1000, 1200); /* we, not nice */
    look(200 * tick_us, 4);
    assert_int_equal(pc.others_percent, 0);
    stat_file(1150, 1200, 1010, 1240); /* somebody: 60 of 200; something nice: 100 */
    look(200 * tick_us, 6);
    assert_int_equal(pc.others_percent, 30);
    stat_file(1350, 1200, 1010, 1240); /* somebody, all of it */
    look(200 * tick_us, 8);
    assert_int_equal(pc.others_percent, 100);
    stat_file(0, 0, 0, 0); /* a PC that was put to sleep may count anew */
    look(200 * tick_us, 10);
    assert_int_equal(pc.others_percent, SENSED_UNKNOWN);
}

static void test_seat(void **state)
{
    (void)state;
    put("sys/class/drm/card0-eDP-1/status", "connected\n");
    put("sys/class/drm/card0-eDP-1/dpms", "On\n");
    put("sys/class/drm/card0-HDMI-A-1/status", "disconnected\n");
    put("sys/class/drm/card0-HDMI-A-1/dpms", "On\n");
    put("run/systemd/sessions/c1", "ACTIVE=1\nREMOTE=0\nTYPE=wayland\nCLASS=greeter\n");
    put("run/systemd/sessions/5", "ACTIVE=1\nREMOTE=1\nTYPE=tty\nCLASS=user\n");
    look(0, 1000);
    assert_false(pc.is_present); /* the log-in screen, and somebody by ssh */
    put("run/systemd/sessions/6", "ACTIVE=1\nREMOTE=0\nTYPE=wayland\nCLASS=user\n");
    look(0, 1000);
    assert_true(pc.is_present);
    put("sys/class/drm/card0-eDP-1/dpms", "Off\n");
    look(0, 1000);
    assert_false(pc.is_present);
}

static void test_keys(void **state)
{
    (void)state;
    put("proc/interrupts", "           CPU0       CPU1\n"
                           "  1:       100         20   IO-APIC   1-edge      i8042\n"
                           "  9:       500          0   IO-APIC   9-fasteoi   acpi\n");
    look(0, 1000);
    assert_false(pc.is_present);
    put("proc/interrupts", "           CPU0       CPU1\n"
                           "  1:       100         22   IO-APIC   1-edge      i8042\n"
                           "  9:       900          0   IO-APIC   9-fasteoi   acpi\n");
    look(0, 1002);
    assert_true(pc.is_present);
    look(0, 1002 + PRESENT_S - 1);
    assert_true(pc.is_present);
    look(0, 1002 + PRESENT_S);
    assert_false(pc.is_present);
}

static void test_clock(void **state)
{
    (void)state;
    put("clock", "22:30\n");
    look(0, 0);
    assert_int_equal(pc.minute, 22 * 60 + 30);
    put("clock", "24:00\n"); /* no time: the real one */
    setenv("TZ", "UTC", 1);
    look(0, 3600 + 120);
    assert_int_equal(pc.minute, 62);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power, setup, teardown),
        cmocka_unit_test_setup_teardown(test_heat, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cores, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_cgroups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seat, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clock, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
