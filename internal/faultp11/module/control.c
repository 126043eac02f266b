/*
 * What package faultp11 calls. All functions have one form: up to eight numbers, and bytes that they read or fill in.
 * Those that act on the real module return its code.
 */
#include <stdlib.h>
#include <string.h>

#include "shim.h"

#define CONTROL(name)                                                                                  \
	__attribute__((visibility("default"))) CK_ULONG shim_control_##name(const CK_ULONG *a, void *data, CK_ULONG length); \
	CK_ULONG shim_control_##name(const CK_ULONG *a, void *data, CK_ULONG length)

/* UNUSED keeps the compiler quiet about the parameters that a function has only for the form. */
#define UNUSED ((void)a, (void)data, (void)length)

/* configure(path) says which module is the real one. */
CONTROL(configure)
{
	UNUSED;
	char *path = malloc(length + 1);
	if (path == NULL)
		abort();
	memcpy(path, data, length);
	path[length] = 0;
	shim_path = path;
	return CKR_OK;
}

/* functions(out) fills in the names in the order of their numbers, each ended by a NUL, and returns their length. */
CONTROL(functions)
{
	UNUSED;
	CK_ULONG at = 0;
	for (int i = 0; i < F_COUNT; i++) {
		CK_ULONG n = strlen(shim_names[i]) + 1;
		if (at + n <= length)
			memcpy((char *)data + at, shim_names[i], n);
		at += n;
	}
	return at;
}

CONTROL(rules)
{
	UNUSED;
	shim_set_rules(data, length / sizeof(struct rule));
	return CKR_OK;
}

CONTROL(release)
{
	UNUSED;
	shim_release();
	return CKR_OK;
}

CONTROL(hanging)
{
	UNUSED;
	return shim_hanging();
}

/* count(function) */
CONTROL(count)
{
	UNUSED;
	return atomic_load(&shim_counts[a[0]]);
}

CONTROL(reset_counts)
{
	UNUSED;
	for (int i = 0; i < F_COUNT; i++)
		atomic_store(&shim_counts[i], 0);
	return CKR_OK;
}

/* sessions(lost) */
CONTROL(sessions)
{
	UNUSED;
	return sessions_count(a[0] != 0);
}

CONTROL(user_logins)
{
	UNUSED;
	return atomic_load(&shim_user_logins);
}

CONTROL(wrong_pins)
{
	UNUSED;
	return atomic_load(&shim_wrong_pins);
}

CONTROL(overlaps)
{
	UNUSED;
	return atomic_load(&shim_overlaps);
}

CONTROL(close_all_sessions)
{
	UNUSED;
	pthread_rwlock_wrlock(&shim_gate);
	CK_RV rv = sessions_close_all();
	pthread_rwlock_unlock(&shim_gate);
	return rv;
}

CONTROL(logout)
{
	UNUSED;
	pthread_rwlock_wrlock(&shim_gate);
	CK_RV rv = sessions_logout();
	pthread_rwlock_unlock(&shim_gate);
	return rv;
}

CONTROL(remove)
{
	UNUSED;
	pthread_rwlock_wrlock(&shim_gate);
	CK_RV rv = sessions_close_all();
	atomic_store(&shim_removed, 1);
	pthread_rwlock_unlock(&shim_gate);
	return rv == CKR_CRYPTOKI_NOT_INITIALIZED ? CKR_OK : rv;
}

CONTROL(insert)
{
	UNUSED;
	pthread_rwlock_wrlock(&shim_gate);
	atomic_store(&shim_removed, 0);
	pthread_rwlock_unlock(&shim_gate);
	return CKR_OK;
}

CONTROL(reinitialize)
{
	UNUSED;
	CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
	pthread_rwlock_wrlock(&shim_gate);
	CK_RV rv = shim_real == NULL ? CKR_CRYPTOKI_NOT_INITIALIZED : do_C_Finalize(NULL);
	if (rv == CKR_OK)
		rv = do_C_Initialize(&args);
	pthread_rwlock_unlock(&shim_gate);
	return rv;
}

CONTROL(finalize)
{
	UNUSED;
	pthread_rwlock_wrlock(&shim_gate);
	CK_RV rv = shim_real == NULL ? CKR_CRYPTOKI_NOT_INITIALIZED : do_C_Finalize(NULL);
	pthread_rwlock_unlock(&shim_gate);
	return rv;
}

/* limit(sessions, report) */
CONTROL(limit)
{
	UNUSED;
	atomic_store(&shim_limit, a[0]);
	atomic_store(&shim_limit_reported, a[1] != 0);
	return CKR_OK;
}

/* token_flags(set, clear) */
CONTROL(token_flags)
{
	UNUSED;
	atomic_store(&shim_flags_set, a[0]);
	atomic_store(&shim_flags_clear, a[1]);
	return CKR_OK;
}

/* override(kind, class, type, length, label length; label, value) */
CONTROL(override)
{
	UNUSED;
	override_add((enum override_kind)a[0], a[1], a[2], a[3], data, a[4], (char *)data + a[4]);
	return CKR_OK;
}

CONTROL(clear_overrides)
{
	UNUSED;
	overrides_clear();
	return CKR_OK;
}

/* mechanism(type, add, flags, smallest key, largest key) */
CONTROL(mechanism)
{
	UNUSED;
	mechanism_change(a[0], a[1] != 0, a[2], a[3], a[4]);
	return CKR_OK;
}

/* delay(nanoseconds) */
CONTROL(delay)
{
	UNUSED;
	atomic_store(&shim_delay_all, a[0]);
	return CKR_OK;
}

/* check_pin(on) */
CONTROL(check_pin)
{
	UNUSED;
	atomic_store(&shim_check_pin, a[0] != 0);
	return CKR_OK;
}

/* object(signature length, or 0 if it can't sign; attributes) returns the number of the object. */
CONTROL(object)
{
	UNUSED;
	return object_add(data, length, a[0]);
}

/* socket(object) returns the file descriptor on which the object's signatures are asked for, which is then the caller's. */
CONTROL(socket)
{
	UNUSED;
	return (CK_ULONG)object_socket(a[0]);
}

/* detach(object) */
CONTROL(detach)
{
	UNUSED;
	object_detach(a[0]);
	return CKR_OK;
}
