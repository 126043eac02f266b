/* What every call goes through: counts, delays and rules. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shim.h"

#ifdef PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
pthread_rwlock_t shim_gate = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP; /* a busy module would starve writers */
#else
pthread_rwlock_t shim_gate = PTHREAD_RWLOCK_INITIALIZER;
#endif
pthread_mutex_t shim_state = PTHREAD_MUTEX_INITIALIZER;
CK_FUNCTION_LIST_PTR shim_real;
atomic_ulong shim_counts[F_COUNT], shim_delay_all, shim_overlaps;
atomic_int shim_removed;
char *shim_path;

const char *const shim_names[F_COUNT] = {
#define CK_PKCS11_FUNCTION_INFO(name) #name,
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
};

static atomic_long running; /* calls that the caller has made and that have not returned */

/* Guarded by shim_state, but rule_count may be read without it. */
static struct rule *rules;
static atomic_ulong rule_count;
static CK_ULONG hanging;
static CK_ULONG epoch; /* changes when hanging calls must go on */
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;

static void pause_for(CK_ULONG nanoseconds)
{
	if (nanoseconds == 0)
		return;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	nanoseconds += (CK_ULONG)until.tv_nsec;
	until.tv_sec += (time_t)(nanoseconds / 1000000000);
	until.tv_nsec = (long)(nanoseconds % 1000000000);
	/* Go's scheduler interrupts threads by signals. */
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

static void hang(void)
{
	pthread_mutex_lock(&shim_state);
	hanging++;
	for (CK_ULONG since = epoch; since == epoch;)
		pthread_cond_wait(&released, &shim_state);
	hanging--;
	pthread_mutex_unlock(&shim_state);
}

/* pick lets every rule of the function see the call, and gives it the first that is due. */
static void pick(struct call *c)
{
	pthread_mutex_lock(&shim_state);
	CK_ULONG count = atomic_load(&rule_count);
	for (CK_ULONG i = 0; i < count; i++) {
		struct rule *rule = &rules[i];
		if (rule->function != c->function && rule->function != F_COUNT)
			continue;
		if (rule->skip > 0) {
			rule->skip--;
			continue;
		}
		if (c->ruled || rule->times == 0)
			continue;
		if (rule->times != CK_UNAVAILABLE_INFORMATION)
			rule->times--;
		c->ruled = 1;
		c->rule = *rule;
	}
	pthread_mutex_unlock(&shim_state);
}

/* apply returns the code of the rule, or rv if it has none. */
static CK_RV apply(const struct call *c, CK_RV rv)
{
	pause_for(c->rule.delay);
	if (c->rule.hang)
		hang();
	return c->rule.code != CKR_OK ? c->rule.code : rv;
}

int shim_enter(struct call *c, CK_RV *rv)
{
	atomic_fetch_add_explicit(&shim_counts[c->function], 1, memory_order_relaxed);
	if (atomic_fetch_add(&running, 1) > 0 && c->function == F_C_Finalize)
		atomic_fetch_add(&shim_overlaps, 1);
	pause_for(atomic_load_explicit(&shim_delay_all, memory_order_relaxed));
	if (atomic_load(&rule_count) > 0)
		pick(c);
	if (c->ruled && c->rule.when == BEFORE && (*rv = apply(c, CKR_OK)) != CKR_OK)
		return 0;

	*rv = CKR_OK;
	if (c->scope == LOCAL)
		return 1;
	if (c->scope == ALONE)
		pthread_rwlock_wrlock(&shim_gate);
	else
		pthread_rwlock_rdlock(&shim_gate);
	c->held = 1;
	if (shim_real == NULL && c->function != F_C_Initialize)
		*rv = CKR_CRYPTOKI_NOT_INITIALIZED;
	else if (c->scope == TOKEN && atomic_load(&shim_removed))
		*rv = CKR_TOKEN_NOT_PRESENT;
	else if (c->scope == SESSION && atomic_load(&shim_removed))
		*rv = CKR_DEVICE_REMOVED;
	if (c->scope == WAITING) {
		pthread_rwlock_unlock(&shim_gate);
		c->held = 0;
	}
	return *rv == CKR_OK;
}

CK_RV shim_leave(struct call *c, CK_RV rv)
{
	if (c->held)
		pthread_rwlock_unlock(&shim_gate);
	if (c->ruled && c->rule.when == AFTER)
		rv = apply(c, rv);
	atomic_fetch_sub(&running, 1);
	return rv;
}

void shim_set_rules(const struct rule *new, CK_ULONG count)
{
	struct rule *copy = NULL;
	if (count > 0 && (copy = malloc(count * sizeof *copy)) == NULL)
		abort();
	if (count > 0)
		memcpy(copy, new, count * sizeof *copy);
	pthread_mutex_lock(&shim_state);
	free(rules);
	rules = copy;
	atomic_store(&rule_count, count);
	epoch++;
	pthread_cond_broadcast(&released);
	pthread_mutex_unlock(&shim_state);
}

void shim_release(void)
{
	pthread_mutex_lock(&shim_state);
	epoch++;
	pthread_cond_broadcast(&released);
	pthread_mutex_unlock(&shim_state);
}

CK_ULONG shim_hanging(void)
{
	pthread_mutex_lock(&shim_state);
	CK_ULONG n = hanging;
	pthread_mutex_unlock(&shim_state);
	return n;
}
