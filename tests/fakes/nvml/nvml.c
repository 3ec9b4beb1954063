/* A board that draws a steady power, behind the part of NVML's interface that siderostat calls.
 *
 * Variables of the environment, read at each call:
 *   FAKE_NVML_POWER_W     what it draws (300)           FAKE_NVML_UPDATE_S   period of its counter and sensor (0.1)
 *   FAKE_NVML_SENSOR_W    what its sensor says (POWER)  FAKE_NVML_LIMIT_W    its power limit (700)
 *   FAKE_NVML_RESET_S     when its counter is set back, in s after nvmlInit; FAKE_NVML_LOST_S: when it is lost
 *   FAKE_NVML_PIDS        how many processes compute on it, numbered from 1000
 *   FAKE_NVML_NO          letters: e no counter of energy, i no power of the moment, p no power at all,
 *                         f energy is forbidden, s no clocks and temperatures, o a driver without "event reasons"
 *   FAKE_NVML_MIG         b the board is divided, h the handle is of a part
 *   FAKE_NVML_REASONS     bits that say what holds the clock down (0)
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, NOT_THERE = 13, LOST = 15 };
typedef int Return;
typedef void *Device;
typedef struct { char legacy_id[16]; unsigned domain, bus, device, pci_id, subsystem_id; char id[32]; } Pci;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } Process;
typedef struct {
    unsigned id, scope;
    int64_t at, latency;
    unsigned type;
    Return result;
    union { double d; unsigned u; unsigned long long ull; } value;
} Field;

static const char UUID[] = "GPU-01234567-89ab-cdef-0123-456789abcdef", PCI[] = "00000000:65:00.0";
static double started;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
static double number(const char *name, double otherwise) { const char *s = getenv(name); return s ? atof(s) : otherwise; }
static int has(const char *name, char letter) { const char *s = getenv(name); return s && strchr(s, letter); }
static int lost(void) { return now() - started > number("FAKE_NVML_LOST_S", 1e9); }
static double updates(void) { return floor(now() / number("FAKE_NVML_UPDATE_S", 0.1)); }
static double sensor_w(void) { /* the last digit flickers, as that of a real sensor does */
    return number("FAKE_NVML_SENSOR_W", number("FAKE_NVML_POWER_W", 300)) + 1e-3 * fmod(updates(), 10);
}
static Return tell(unsigned *where, unsigned value) { *where = value; return SUCCESS; }
static Return text(char *where, unsigned size, const char *value) { snprintf(where, size, "%s", value); return SUCCESS; }
static Return tell_state(unsigned *where, unsigned value) { return has("FAKE_NVML_NO", 's') ? NOT_SUPPORTED : tell(where, value); }

Return nvmlInitWithFlags(unsigned flags) { (void)flags; if (!started) started = now(); return SUCCESS; }
const char *nvmlErrorString(Return r) { return r == NOT_SUPPORTED ? "Not Supported" : r == LOST ? "GPU is lost" : "Error"; }
Return nvmlSystemGetDriverVersion(char *s, unsigned n) { return text(s, n, "550.54.15"); }
Return nvmlDeviceGetHandleByUUID(const char *uuid, Device *d) { *d = (Device)1; return strcmp(uuid, UUID) ? NOT_FOUND : SUCCESS; }
Return nvmlDeviceGetHandleByPciBusId_v2(const char *id, Device *d) { *d = (Device)1; return strcmp(id, PCI) ? NOT_FOUND : SUCCESS; }
Return nvmlDeviceGetName(Device d, char *s, unsigned n) { (void)d; return text(s, n, "NVIDIA Fake H100"); }
Return nvmlDeviceGetUUID(Device d, char *s, unsigned n) { (void)d; return text(s, n, UUID); }
Return nvmlDeviceGetPciInfo_v3(Device d, Pci *p) { (void)d; return text(p->id, sizeof p->id, PCI); }
Return nvmlDeviceIsMigDeviceHandle(Device d, unsigned *is) { (void)d; return tell(is, has("FAKE_NVML_MIG", 'h')); }
Return nvmlDeviceGetMigMode(Device d, unsigned *current, unsigned *pending) {
    (void)d;
    return tell(current, *pending = has("FAKE_NVML_MIG", 'b'));
}
Return nvmlDeviceGetClockInfo(Device d, int which, unsigned *mhz) { (void)d; return tell_state(mhz, which == 1 ? 1980 : 2619); }
Return nvmlDeviceGetTemperature(Device d, int which, unsigned *c) { (void)d; (void)which; return tell_state(c, 50); }
Return nvmlDeviceGetDefaultApplicationsClock(Device d, int which, unsigned *mhz) { (void)d; (void)which; return tell_state(mhz, 1830); }
Return nvmlDeviceGetEnforcedPowerLimit(Device d, unsigned *mw) { (void)d; return tell(mw, 1e3 * number("FAKE_NVML_LIMIT_W", 700)); }
Return nvmlDeviceGetCurrentClocksThrottleReasons(Device d, unsigned long long *bits) {
    (void)d;
    *bits = number("FAKE_NVML_REASONS", 0);
    return has("FAKE_NVML_NO", 's') ? NOT_SUPPORTED : SUCCESS;
}
Return nvmlDeviceGetCurrentClocksEventReasons(Device d, unsigned long long *bits) {
    return has("FAKE_NVML_NO", 'o') ? NOT_THERE : nvmlDeviceGetCurrentClocksThrottleReasons(d, bits);
}
Return nvmlDeviceGetComputeRunningProcesses_v3(Device d, unsigned *n, Process *p) {
    unsigned here = number("FAKE_NVML_PIDS", 0), room = *n;
    (void)d;
    if (has("FAKE_NVML_NO", 's')) return NOT_SUPPORTED;
    *n = here;
    if (room < here) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < here; i++) p[i] = (Process){1000 + i, 1 << 20, 0, 0};
    return SUCCESS;
}
Return nvmlDeviceGetTotalEnergyConsumption(Device d, unsigned long long *mj) {
    double since = floor((now() - started) / number("FAKE_NVML_RESET_S", 1e9)) ? 0 : 1e6;
    (void)d;
    if (lost()) return LOST;
    if (has("FAKE_NVML_NO", 'e')) return NOT_SUPPORTED;
    if (has("FAKE_NVML_NO", 'f')) return NO_PERMISSION;
    *mj = 1e3 * (since + number("FAKE_NVML_POWER_W", 300) * updates() * number("FAKE_NVML_UPDATE_S", 0.1));
    return SUCCESS;
}
Return nvmlDeviceGetPowerUsage(Device d, unsigned *mw) {
    (void)d;
    return lost() ? LOST : has("FAKE_NVML_NO", 'p') ? NOT_SUPPORTED : tell(mw, lround(1e3 * sensor_w()));
}
Return nvmlDeviceGetFieldValues(Device d, int n, Field *fields) {
    for (int i = 0; i < n; i++) {
        fields[i].result = NOT_SUPPORTED;
        if (fields[i].id == 186 && !has("FAKE_NVML_NO", 'i')) fields[i].result = nvmlDeviceGetPowerUsage(d, &fields[i].value.u);
    }
    return SUCCESS;
}
