/*
 * A module as of an HSM on a network: it forwards to the module that MANAGEDKEYS_BENCH_REAL names and makes each call
 * that finding and using keys takes half a millisecond longer.
 */
#include "../token.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static CK_FUNCTION_LIST_PTR real;

static void travel(void) {
	struct timespec t = {0, 500000};
	nanosleep(&t, NULL);
}

#define SLOW(name, parameters, arguments)                                                                                    \
	static CK_RV slow_##name parameters {                                                                                \
		travel();                                                                                                    \
		return real->name arguments;                                                                                 \
	}
#define SLOW_INIT(name)                                                                                                      \
	SLOW(name, (CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key), (session, mechanism, key))
#define SLOW_DATA(name)                                                                                                      \
	SLOW(name, (CK_SESSION_HANDLE session, CK_BYTE_PTR in, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG_PTR size),              \
	     (session, in, n, out, size))

SLOW(C_OpenSession, (CK_SLOT_ID id, CK_FLAGS flags, void *application, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR session),
     (id, flags, application, notify, session))
SLOW(C_CloseSession, (CK_SESSION_HANDLE session), (session))
SLOW(C_GetSessionInfo, (CK_SESSION_HANDLE session, CK_SESSION_INFO_PTR info), (session, info))
SLOW(C_Login, (CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG n), (session, user, pin, n))
SLOW(C_FindObjectsInit, (CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR template, CK_ULONG n), (session, template, n))
SLOW(C_FindObjects, (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR found, CK_ULONG max, CK_ULONG_PTR n), (session, found, max, n))
SLOW(C_FindObjectsFinal, (CK_SESSION_HANDLE session), (session))
SLOW(C_GetAttributeValue, (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR template, CK_ULONG n),
     (session, object, template, n))
SLOW_INIT(C_SignInit)
SLOW_DATA(C_Sign)
SLOW(C_SignUpdate, (CK_SESSION_HANDLE session, CK_BYTE_PTR in, CK_ULONG n), (session, in, n))
SLOW(C_SignFinal, (CK_SESSION_HANDLE session, CK_BYTE_PTR out, CK_ULONG_PTR size), (session, out, size))
SLOW_INIT(C_DecryptInit)
SLOW_DATA(C_Decrypt)
SLOW_INIT(C_EncryptInit)
SLOW_DATA(C_Encrypt)

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
	static CK_FUNCTION_LIST slow;
	if (!real) {
		const char *path = getenv("MANAGEDKEYS_BENCH_REAL");
		void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
		CK_C_GetFunctionList get = module ? (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList") : NULL;
		if (!get || get(&real) != CKR_OK)
			return CKR_GENERAL_ERROR;
		slow = *real;
#define USE(name) slow.name = slow_##name
		USE(C_OpenSession), USE(C_CloseSession), USE(C_GetSessionInfo), USE(C_Login);
		USE(C_FindObjectsInit), USE(C_FindObjects), USE(C_FindObjectsFinal), USE(C_GetAttributeValue);
		USE(C_SignInit), USE(C_Sign), USE(C_SignUpdate), USE(C_SignFinal);
		USE(C_DecryptInit), USE(C_Decrypt), USE(C_EncryptInit), USE(C_Encrypt);
	}
	*list = &slow;
	return CKR_OK;
}
