/* The library, its slots and tokens, sessions and logins. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

enum { MAX_SLOTS = 256, MAX_PIN = 256 };

atomic_ulong shim_user_logins, shim_wrong_pins, shim_flags_set, shim_flags_clear, shim_limit;
atomic_int shim_limit_reported, shim_check_pin;

static struct session *sessions; /* guarded by shim_state */

/* The PIN that logged the user in last, per slot, for shim_check_pin. Guarded by shim_state. */
static struct {
	CK_SLOT_ID slot;
	CK_ULONG length;
	CK_BYTE pin[MAX_PIN];
} pins[MAX_SLOTS];
static int pin_count;

struct session *session_find(CK_SESSION_HANDLE handle)
{
	for (struct session *s = sessions; s != NULL; s = s->next)
		if (s->handle == handle)
			return s;
	return NULL;
}

void session_lost(CK_SESSION_HANDLE handle)
{
	pthread_mutex_lock(&shim_state);
	struct session *s = session_find(handle);
	if (s != NULL)
		s->lost = 1;
	pthread_mutex_unlock(&shim_state);
}

/* remove_where needs shim_state. */
static void remove_where(int (*matches)(const struct session *s, CK_ULONG with), CK_ULONG with)
{
	for (struct session **at = &sessions; *at != NULL;) {
		struct session *s = *at;
		if (!matches(s, with)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		signing_free(s->signing);
		free(s->found);
		free(s);
	}
}

static int in_slot(const struct session *s, CK_ULONG slot) { return s->slot == slot && s->handle != 0; }
static int has_handle(const struct session *s, CK_ULONG handle) { return s->handle == handle; }
static int is(const struct session *s, CK_ULONG address) { return s == (const struct session *)address; }
static int any(const struct session *s, CK_ULONG with) { return (void)s, (void)with, 1; }

static void forget(int (*matches)(const struct session *s, CK_ULONG with), CK_ULONG with)
{
	pthread_mutex_lock(&shim_state);
	remove_where(matches, with);
	pthread_mutex_unlock(&shim_state);
}

void sessions_forget(void) { forget(any, 0); }

CK_ULONG sessions_count(int lost)
{
	CK_ULONG n = 0;
	pthread_mutex_lock(&shim_state);
	for (struct session *s = sessions; s != NULL; s = s->next)
		n += s->handle != 0 && s->lost == lost;
	pthread_mutex_unlock(&shim_state);
	return n;
}

/* The gate must be held alone. */
CK_RV sessions_close_all(void)
{
	CK_SLOT_ID slots[MAX_SLOTS];
	CK_ULONG count = MAX_SLOTS;
	if (shim_real == NULL)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	CK_RV rv = shim_real->C_GetSlotList(CK_TRUE, slots, &count);
	for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++)
		rv = shim_real->C_CloseAllSessions(slots[i]);
	if (rv == CKR_OK)
		sessions_forget();
	return rv;
}

CK_RV sessions_logout(void)
{
	CK_RV rv = CKR_OK;
	pthread_mutex_lock(&shim_state);
	CK_SESSION_HANDLE *handles = calloc(MAX_SLOTS, sizeof *handles);
	CK_SLOT_ID slots[MAX_SLOTS];
	CK_ULONG count = 0;
	for (struct session *s = sessions; handles != NULL && s != NULL; s = s->next) {
		CK_ULONG i = 0;
		while (i < count && slots[i] != s->slot)
			i++;
		if (i < count || count == MAX_SLOTS || s->handle == 0)
			continue;
		slots[count] = s->slot;
		handles[count++] = s->handle;
	}
	pthread_mutex_unlock(&shim_state);
	for (CK_ULONG i = 0; i < count; i++) {
		CK_RV one = shim_real->C_Logout(handles[i]);
		if (one != CKR_OK && one != CKR_USER_NOT_LOGGED_IN)
			rv = one;
	}
	free(handles);
	return rv;
}

static CK_RV load(void)
{
	void *module = shim_path == NULL ? NULL : dlopen(shim_path, RTLD_NOW | RTLD_LOCAL);
	if (module == NULL) {
		fprintf(stderr, "faultp11: %s\n", shim_path == NULL ? "no real module is configured" : dlerror());
		return CKR_GENERAL_ERROR;
	}
	CK_C_GetFunctionList list = (CK_C_GetFunctionList)(uintptr_t)dlsym(module, "C_GetFunctionList");
	CK_FUNCTION_LIST_PTR functions = NULL;
	if (list == NULL || list(&functions) != CKR_OK || functions == NULL)
		return CKR_GENERAL_ERROR;
	shim_real = functions;
	return CKR_OK;
}

CK_RV do_C_Initialize(CK_VOID_PTR args)
{
	CK_RV rv = shim_real != NULL ? CKR_OK : load();
	if (rv == CKR_OK)
		rv = shim_real->C_Initialize(args);
	if (rv == CKR_OK)
		atomic_fetch_add(&shim_generation, 1);
	return rv;
}

CK_RV do_C_Finalize(CK_VOID_PTR reserved)
{
	CK_RV rv = shim_real->C_Finalize(reserved);
	if (rv == CKR_OK)
		sessions_forget();
	return rv;
}

CK_RV do_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count)
{
	if (!present || count == NULL || !atomic_load(&shim_removed))
		return shim_real->C_GetSlotList(present, slots, count);
	*count = 0;
	return CKR_OK;
}

CK_RV do_C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO_PTR info)
{
	CK_RV rv = shim_real->C_GetSlotInfo(slot, info);
	if (rv == CKR_OK && atomic_load(&shim_removed))
		info->flags &= ~(CK_FLAGS)CKF_TOKEN_PRESENT;
	return rv;
}

CK_RV do_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info)
{
	CK_RV rv = shim_real->C_GetTokenInfo(slot, info);
	if (rv != CKR_OK)
		return rv;
	info->flags = (info->flags | atomic_load(&shim_flags_set)) & ~atomic_load(&shim_flags_clear);
	CK_ULONG limit = atomic_load(&shim_limit);
	if (limit > 0 && atomic_load(&shim_limit_reported))
		info->ulMaxSessionCount = info->ulMaxRwSessionCount = limit;
	return CKR_OK;
}

CK_RV do_C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR context, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR handle)
{
	struct session *s = calloc(1, sizeof *s);
	if (s == NULL)
		return CKR_HOST_MEMORY;
	s->slot = slot;
	CK_ULONG limit = atomic_load(&shim_limit), open = 0;
	pthread_mutex_lock(&shim_state);
	for (struct session *other = sessions; other != NULL; other = other->next)
		open += other->slot == slot;
	int full = limit > 0 && open >= limit;
	if (!full) { /* it counts already, or several at a time would pass the limit */
		s->next = sessions;
		sessions = s;
	}
	pthread_mutex_unlock(&shim_state);
	if (full) {
		free(s);
		return CKR_SESSION_COUNT;
	}

	CK_RV rv = shim_real->C_OpenSession(slot, flags, context, notify, handle);
	pthread_mutex_lock(&shim_state);
	if (rv == CKR_OK)
		s->handle = *handle;
	else
		remove_where(is, (CK_ULONG)s);
	pthread_mutex_unlock(&shim_state);
	return rv;
}

CK_RV do_C_CloseSession(CK_SESSION_HANDLE handle)
{
	CK_RV rv = shim_real->C_CloseSession(handle);
	if (rv == CKR_OK && handle != 0)
		forget(has_handle, handle);
	return rv;
}

CK_RV do_C_CloseAllSessions(CK_SLOT_ID slot)
{
	CK_RV rv = shim_real->C_CloseAllSessions(slot);
	if (rv == CKR_OK)
		forget(in_slot, slot);
	return rv;
}

/* check_pin remembers a PIN that was right, or compares another with it. It returns the code for the caller. */
static CK_RV check_pin(CK_SLOT_ID slot, const CK_BYTE *pin, CK_ULONG length, CK_RV rv)
{
	if (pin == NULL || length > MAX_PIN)
		return rv;
	pthread_mutex_lock(&shim_state);
	int i = 0;
	while (i < pin_count && pins[i].slot != slot)
		i++;
	if (rv == CKR_OK && i < MAX_SLOTS) {
		pin_count += i == pin_count;
		pins[i].slot = slot;
		pins[i].length = length;
		memcpy(pins[i].pin, pin, length);
	} else if (rv == CKR_USER_ALREADY_LOGGED_IN && atomic_load(&shim_check_pin) && i < pin_count &&
	           (pins[i].length != length || memcmp(pins[i].pin, pin, length) != 0)) {
		rv = CKR_PIN_INCORRECT;
	}
	pthread_mutex_unlock(&shim_state);
	return rv;
}

CK_RV do_C_Login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length)
{
	CK_RV rv = shim_real->C_Login(handle, user, pin, length);
	if (user == CKU_SO)
		return rv;
	pthread_mutex_lock(&shim_state);
	struct session *s = session_find(handle);
	CK_SLOT_ID slot = s != NULL ? s->slot : 0;
	pthread_mutex_unlock(&shim_state);
	if (s != NULL && user == CKU_USER)
		rv = check_pin(slot, pin, length, rv);
	atomic_fetch_add(&shim_user_logins, 1);
	if (rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE)
		atomic_fetch_add(&shim_wrong_pins, 1);
	return rv;
}
