/* A stand-in for NVIDIA's libnvidia-ml.so.1: one GPU whose answers the environment chooses.
 *
 * The tests load it as the real one is loaded, by name, through the loader and pynvml's ctypes.
 * Structures are laid out as nvml.h lays them out. Variables, read at every call:
 *
 *   FAKE_INIT=18             what nvmlInit returns
 *   FAKE_HANG=30             how many seconds nvmlInit takes, unless a signal comes
 *   FAKE_DEVICES=0           how many devices there are
 *   FAKE_RETURN=f=3,g=15     what these functions return; fieldN is field value N,
 *                            and *=3 stands for every reading of a device but its name
 *   FAKE_LOST_AFTER=40       after so many readings the device answers GPU_IS_LOST
 *   FAKE_LOG=file            initializations and shutdowns, one line each
 *   FAKE_MEMORY=-1           memory of each process, bytes; -1 stands for "not available"
 *   FAKE_ECC, FAKE_PENDING, FAKE_FAILED, FAKE_REASONS, FAKE_PERSISTENCE, FAKE_MIG,
 *   FAKE_MIG_PENDING         values of these readings
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LOST = 15 };

typedef unsigned int u32;
typedef unsigned long long u64;

static u64 number(const char *name, u64 otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void note(const char *what) {
    const char *path = getenv("FAKE_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s\n", what);
    fclose(file);
}

/* The return code that FAKE_RETURN holds for a name, or -1. */
static int chosen(const char *name) {
    const char *at = getenv("FAKE_RETURN");
    size_t length = strlen(name);
    while (at && *at) {
        if (!strncmp(at, name, length) && at[length] == '=') return atoi(at + length + 1);
        at = strchr(at, ',');
        if (at) at++;
    }
    return -1;
}

static int answer(const char *name) {
    static u64 readings;
    if (getenv("FAKE_LOST_AFTER") && ++readings > number("FAKE_LOST_AFTER", 0)) return LOST;
    int code = chosen(name);
    if (code < 0 && strcmp(name, "nvmlDeviceGetName")) code = chosen("*");
    return code < 0 ? SUCCESS : code;
}

#define ANSWER() do { int code = answer(__func__); if (code) return code; } while (0)
#define TEXT(f, value) \
    int f(void *d, char *text, u32 size) { ANSWER(); snprintf(text, size, value); return SUCCESS; }
#define ONE(f, value) \
    int f(void *d, u32 *a) { ANSWER(); *a = (value); return SUCCESS; }
#define KIND(f, value) \
    int f(void *d, u32 kind, u32 *a) { ANSWER(); *a = (value); return SUCCESS; }
#define TWO(f, first, second) \
    int f(void *d, u32 *a, u32 *b) { ANSWER(); *a = (first); *b = (second); return SUCCESS; }

/* The library itself. */
int nvmlInitWithFlags(u32 flags) {
    note("init");
    sleep(number("FAKE_HANG", 0));
    return (int)number("FAKE_INIT", SUCCESS);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { note("shutdown"); return SUCCESS; }
const char *nvmlErrorString(int code) { return "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *text, u32 size) {
    snprintf(text, size, "580.95.05"); return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return SUCCESS; }
int nvmlDeviceGetCount_v2(u32 *count) { *count = number("FAKE_DEVICES", 1); return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **device) {
    int code = chosen("nvmlDeviceGetHandleByIndex_v2");
    *device = &number;
    return code < 0 ? SUCCESS : code;
}

/* Identity. */
TEXT(nvmlDeviceGetName, "NVIDIA H100 80GB HBM3")
TEXT(nvmlDeviceGetVbiosVersion, "96.00.99.00.01")
ONE(nvmlDeviceGetArchitecture, 9)
TWO(nvmlDeviceGetCudaComputeCapability, 9, 0)
ONE(nvmlDeviceGetNumGpuCores, 16896)
ONE(nvmlDeviceGetPersistenceMode, number("FAKE_PERSISTENCE", 1))
ONE(nvmlDeviceGetComputeMode, 3)

/* Clocks: domain 2 is the memory's. */
KIND(nvmlDeviceGetClockInfo, kind == 2 ? 2619 : 1755)
KIND(nvmlDeviceGetMaxClockInfo, kind == 2 ? 2619 : 1980)
ONE(nvmlDeviceGetPerformanceState, 2)
int nvmlDeviceGetCurrentClocksEventReasons(void *d, u64 *mask) {
    ANSWER(); *mask = number("FAKE_REASONS", 4); return SUCCESS;
}

/* Power, in milliwatts; energy, in millijoules, 2.5 J more at each reading. */
ONE(nvmlDeviceGetPowerUsage, 312500)
ONE(nvmlDeviceGetEnforcedPowerLimit, 650000)
ONE(nvmlDeviceGetPowerManagementDefaultLimit, 700000)
TWO(nvmlDeviceGetPowerManagementLimitConstraints, 200000, 710000)
int nvmlDeviceGetTotalEnergyConsumption(void *d, u64 *energy) {
    static u64 total = 9000000000ull;
    ANSWER(); *energy = total += 2500; return SUCCESS;
}

/* Temperatures; threshold 0 shuts down, 1 slows down. */
KIND(nvmlDeviceGetTemperature, 41)
KIND(nvmlDeviceGetTemperatureThreshold, kind == 0 ? 92 : 89)
ONE(nvmlDeviceGetFanSpeed, 35)

struct field {
    u32 id, scope;
    long long timestamp, latency;
    u32 type;
    int code;
    union { double d; u32 ui; u64 ull; } value;
};
int nvmlDeviceGetFieldValues(void *d, int count, struct field *fields) {
    ANSWER();
    for (int i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "field%u", fields[i].id);
        int code = chosen(name);
        fields[i].code = code < 0 ? SUCCESS : code;
        fields[i].value.ui = fields[i].id == 82 ? 47 : 355250; /* memory °C; instant mW */
    }
    return SUCCESS;
}

/* Memory: 80 GiB = 1 reserved + 20 used + 59 free. */
#define GIB (1ull << 30)
struct memory { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo(void *d, struct memory *m) {
    ANSWER(); *m = (struct memory){80 * GIB, 59 * GIB, 21 * GIB}; return SUCCESS;
}
int nvmlDeviceGetMemoryInfo_v2(void *d, struct memory_v2 *m) {
    ANSWER();
    *m = (struct memory_v2){m->version, 80 * GIB, GIB, 59 * GIB, 20 * GIB};
    return SUCCESS;
}
int nvmlDeviceGetBAR1MemoryInfo(void *d, u64 *m) {
    ANSWER(); m[0] = 128 * GIB; m[1] = 127 * GIB; m[2] = GIB; return SUCCESS;
}
ONE(nvmlDeviceGetMemoryBusWidth, 5120)

/* Errors. */
TWO(nvmlDeviceGetEccMode, 1, 1)
int nvmlDeviceGetTotalEccErrors(void *d, u32 type, u32 counter, u64 *count) {
    ANSWER(); *count = number("FAKE_ECC", 0); return SUCCESS;
}
int nvmlDeviceGetRemappedRows(void *d, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *bad) {
    ANSWER();
    *corrected = *uncorrected = 0;
    *pending = number("FAKE_PENDING", 0);
    *bad = number("FAKE_FAILED", 0);
    return SUCCESS;
}

/* Links. */
struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(void *d, struct pci *pci) {
    ANSWER(); strcpy(pci->bus_id, "00000000:18:00.0"); return SUCCESS;
}
ONE(nvmlDeviceGetCurrPcieLinkGeneration, 4)
ONE(nvmlDeviceGetMaxPcieLinkGeneration, 5)
ONE(nvmlDeviceGetCurrPcieLinkWidth, 8)
ONE(nvmlDeviceGetMaxPcieLinkWidth, 16)
ONE(nvmlDeviceGetPcieReplayCounter, 6)
int nvmlDeviceGetNvLinkState(void *d, u32 link, u32 *active) {
    ANSWER(); *active = 1; return link < 18 ? SUCCESS : INVALID_ARGUMENT;
}
KIND(nvmlDeviceGetNvLinkVersion, 7)
struct fabric { unsigned char cluster[16]; u32 status, clique; unsigned char state; };
int nvmlDeviceGetGpuFabricInfo(void *d, struct fabric *info) {
    ANSWER(); info->state = 3; return SUCCESS;
}

/* Activity: two compute processes, no graphics. */
int nvmlDeviceGetUtilizationRates(void *d, u32 *use) {
    ANSWER(); use[0] = 87; use[1] = 34; return SUCCESS;
}
struct process { u32 pid; u64 memory; u32 gpu_instance, compute_instance; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, u32 *count, struct process *list) {
    ANSWER();
    u32 room = *count;
    *count = 2;
    if (!list || room < 2) return INSUFFICIENT_SIZE;
    u64 memory = number("FAKE_MEMORY", 10 * GIB);
    list[0] = (struct process){4242, memory, ~0u, ~0u};
    list[1] = (struct process){4243, memory, ~0u, ~0u};
    return SUCCESS;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, u32 *count, void *list) {
    ANSWER(); *count = 0; return SUCCESS;
}

/* MIG: two of the profiles, numbered 0 (one slice) and 4 (seven). */
int nvmlDeviceGetMigMode(void *d, u32 *now, u32 *later) {
    ANSWER();
    *now = number("FAKE_MIG", 0);
    *later = number("FAKE_MIG_PENDING", *now);
    return SUCCESS;
}
ONE(nvmlDeviceGetMaxMigDeviceCount, 7)
struct profile {
    u32 version, id, p2p, slices, instances, sms, copy, decode, encode, jpeg, ofa;
    u64 memory_mib;
    char name[96];
};
int nvmlDeviceGetGpuInstanceProfileInfoV(void *d, u32 index, struct profile *p) {
    ANSWER();
    if (index != 0 && index != 4) return NOT_SUPPORTED;
    int whole = index == 4;
    p->id = whole ? 0 : 19;
    p->slices = whole ? 7 : 1;
    p->instances = whole ? 1 : 7;
    p->sms = whole ? 132 : 16;
    p->memory_mib = whole ? 80896 : 9984;
    strcpy(p->name, whole ? "MIG 7g.80gb" : "MIG 1g.10gb");
    return SUCCESS;
}
int nvmlDeviceGetGpuInstancePossiblePlacements_v2(void *d, u32 id, u32 *places, u32 *count) {
    ANSWER();
    *count = id == 19 ? 7 : 1;
    for (u32 i = 0; i < *count; i++) {
        places[2 * i] = i;
        places[2 * i + 1] = id == 19 ? 1 : 8;
    }
    return SUCCESS;
}
