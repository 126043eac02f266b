//go:build cgo


#include "cryptoki.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#include <pthread.h>
#endif

#define CKR_GENERAL_ERROR 5
#define CKF_OS_LOCKING_OK 2
#define CKU_CONTEXT_SPECIFIC 2
#define CKZ_DATA_SPECIFIED 1
#define MAX_ATTRIBUTES 16

// Loading and initialising run code that nobody has tried here before. A crash in it, on the calling thread, is caught
// and reported. The module is in no known state then and must never be called again.
#ifndef _WIN32
static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { n_crashes = sizeof crashes / sizeof *crashes };
static struct sigaction before[n_crashes]; // valid while the handlers below are installed
static pthread_mutex_t guarding = PTHREAD_MUTEX_INITIALIZER;
static __thread sigjmp_buf *volatile guarded;

static void on_crash(int signal_number, siginfo_t *info, void *context) {
	if (guarded) {
		sigjmp_buf *back = guarded;
		guarded = NULL;
		siglongjmp(*back, signal_number);
	}
	// Another thread's signal is for the handler that was there before, which is the Go runtime's.
	for (int i = 0; i < n_crashes; i++) {
		if (crashes[i] != signal_number) continue;
		if (before[i].sa_flags & SA_SIGINFO) {
			before[i].sa_sigaction(signal_number, info, context);
		} else if (before[i].sa_handler == SIG_DFL) {
			sigaction(signal_number, &before[i], NULL);
			raise(signal_number);
		} else if (before[i].sa_handler != SIG_IGN) {
			before[i].sa_handler(signal_number);
		}
	}
}

// guard calls fn(argument) and returns 0, or the number of the signal that ended it.
static int guard(void (*fn)(void *), void *argument) {
	struct sigaction action;
	sigjmp_buf back;
	int crashed;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = on_crash;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	sigfillset(&action.sa_mask);
	pthread_mutex_lock(&guarding);
	for (int i = 0; i < n_crashes; i++) sigaction(crashes[i], &action, &before[i]);
	crashed = sigsetjmp(back, 1);
	if (crashed == 0) {
		guarded = &back;
		fn(argument);
		guarded = NULL;
	}
	for (int i = 0; i < n_crashes; i++) sigaction(crashes[i], &before[i], NULL);
	pthread_mutex_unlock(&guarding);
	return crashed;
}
#else
static int guard(void (*fn)(void *), void *argument) { fn(argument); return 0; }
#endif

struct loading { const char *path; ck_function_list **list; char *why; size_t room; int result; };

static void load(void *argument) {
	struct loading *l = argument;
	ck_rv (*get)(ck_function_list **);
#ifdef _WIN32
	HMODULE handle = LoadLibraryA(l->path);
	if (!handle) { snprintf(l->why, l->room, "error %lu", GetLastError()); l->result = load_refused; return; }
	get = (ck_rv (*)(ck_function_list **))GetProcAddress(handle, "C_GetFunctionList");
#else
	void *handle = dlopen(l->path, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		const char *why = dlerror();
		snprintf(l->why, l->room, "%s", why ? why : "");
		l->result = load_refused;
		return;
	}
	*(void **)&get = dlsym(handle, "C_GetFunctionList");
#endif
	if (!get) { l->result = load_no_symbol; return; }
	ck_rv rv = get(l->list);
	if (rv != 0 || !*l->list) {
		snprintf(l->why, l->room, "0x%lX", rv);
		l->result = load_no_list;
		return;
	}
	l->result = load_ok;
}

int mk_load(const char *path, ck_function_list **list, char *why, size_t room) {
	struct loading l = {path, list, why, room, load_ok};
	*list = NULL;
	int crashed = guard(load, &l);
	if (crashed) {
		snprintf(why, room, "signal %d", crashed);
		return load_crashed;
	}
	return l.result;
}

struct initializing { ck_function_list *list; ck_rv rv; };

static void initialize(void *argument) {
	struct initializing *i = argument;
	ck_initialize_args args;
	memset(&args, 0, sizeof args);
	args.flags = CKF_OS_LOCKING_OK;
	i->rv = ((ck_rv (*)(void *))i->list->fn[fn_Initialize])(&args);
}

ck_rv mk_initialize(ck_function_list *list, int *crashed) {
	struct initializing i = {list, CKR_GENERAL_ERROR};
	*crashed = guard(initialize, &i);
	return i.rv;
}

static ck_ulong elapsed(struct timespec from, struct timespec to) {
	return (ck_ulong)((to.tv_sec - from.tv_sec) * 1000000000L + (to.tv_nsec - from.tv_nsec));
}

typedef ck_rv (*init_function)(ck_ulong, ck_mechanism *, ck_ulong);
typedef ck_rv (*operation_function)(ck_ulong, ck_byte *, ck_ulong, ck_byte *, ck_ulong *);
typedef ck_rv (*login_function)(ck_ulong, ck_ulong, ck_byte *, ck_ulong);

static ck_rv run(ck_function_list *list, mk_operation *op, ck_mechanism *mechanism, const char *pin, ck_ulong pin_length,
		ck_byte *in, ck_ulong in_length, ck_byte *out) {
	static const int init[] = {fn_SignInit, fn_EncryptInit, fn_DecryptInit};
	static const int operation[] = {fn_Sign, fn_Encrypt, fn_Decrypt};
	static ck_byte nothing; // some modules take an empty message only with a pointer
	if (!in) in = &nothing;
	op->stage = at_init;
	ck_rv rv = ((init_function)list->fn[init[op->op]])(op->session, mechanism, op->key);
	if (rv != 0) return rv;
	if (pin) {
		op->stage = at_login;
		rv = ((login_function)list->fn[fn_Login])(op->session, CKU_CONTEXT_SPECIFIC, (ck_byte *)pin, pin_length);
		if (rv != 0) return rv;
	}
	op->stage = at_operation;
	return ((operation_function)list->fn[operation[op->op]])(op->session, in, in_length, out, &op->out_length);
}

ck_rv mk_run(ck_function_list *list, mk_operation *op, ck_byte *a, ck_ulong a_length, ck_byte *b, ck_ulong b_length,
		const char *pin, ck_ulong pin_length, ck_byte *in, ck_ulong in_length, ck_byte *out) {
	ck_mechanism mechanism = {op->mechanism, NULL, 0};
	union { ck_pss_params pss; ck_oaep_params oaep; ck_gcm_params gcm; ck_sign_context context; } p;
	memset(&p, 0, sizeof p);
	switch (op->kind) {
	case param_pss:
		p.pss = (ck_pss_params){op->hash, op->mgf, op->number};
		mechanism.length = sizeof p.pss;
		break;
	case param_oaep:
		p.oaep = (ck_oaep_params){op->hash, op->mgf, CKZ_DATA_SPECIFIED, b_length ? b : NULL, b_length};
		mechanism.length = sizeof p.oaep;
		break;
	case param_gcm:
		p.gcm = (ck_gcm_params){a, a_length, a_length * 8, b_length ? b : NULL, b_length, op->number};
		mechanism.length = sizeof p.gcm;
		break;
	case param_context:
		p.context = (ck_sign_context){op->number, b_length ? b : NULL, b_length};
		mechanism.length = sizeof p.context;
		break;
	}
	if (mechanism.length) mechanism.parameter = &p;
#ifndef _WIN32
	if (op->measure) {
		struct timespec cpu, wall, cpu_after, wall_after;
		clock_gettime(CLOCK_MONOTONIC, &wall);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
		ck_rv rv = run(list, op, &mechanism, pin, pin_length, in, in_length, out);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_after);
		clock_gettime(CLOCK_MONOTONIC, &wall_after);
		op->cpu = elapsed(cpu, cpu_after);
		op->wall = elapsed(wall, wall_after);
		return rv;
	}
#endif
	return run(list, op, &mechanism, pin, pin_length, in, in_length, out);
}

ck_rv mk_attributes(ck_function_list *list, ck_ulong session, ck_ulong object, ck_ulong *types, ck_ulong n,
		ck_byte *buffer, ck_ulong room, ck_ulong *lengths) {
	ck_attribute template[MAX_ATTRIBUTES];
	for (ck_ulong i = 0; i < n; i++) template[i] = (ck_attribute){types[i], buffer + i * room, room};
	ck_rv rv = ((ck_rv (*)(ck_ulong, ck_ulong, ck_attribute *, ck_ulong))list->fn[fn_GetAttributeValue])(session, object, template, n);
	for (ck_ulong i = 0; i < n; i++) lengths[i] = template[i].length;
	return rv;
}
