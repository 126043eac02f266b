/* The functions of the module. Each goes through CALL, so that none can escape the rules and the counters. */
#include "shim.h"

/* CALL defines the function of the module: do_name, and around it what every call goes through. */
#define CALL(name, needs, params, args)                                         \
	CK_RV name params                                                           \
	{                                                                           \
		struct call call = {.function = F_##name, .scope = needs};              \
		CK_RV rv;                                                               \
		if (shim_enter(&call, &rv))                                             \
			rv = do_##name args;                                                \
		return shim_leave(&call, rv);                                           \
	}

/* PLAIN is for functions that nothing but a rule makes misbehave. */
#define PLAIN(name, needs, params, args)                                        \
	CK_RV do_##name params { return shim_real->name args; }                     \
	CALL(name, needs, params, args)

/* MECHANISM is for functions that only care that the mechanism m has not been removed. */
#define MECHANISM(name, params, args)                                           \
	CK_RV do_##name params                                                      \
	{                                                                           \
		if (mechanism_removed(m))                                               \
			return CKR_MECHANISM_INVALID;                                       \
		return shim_real->name args;                                            \
	}                                                                           \
	CALL(name, SESSION, params, args)

/* Parameters that several functions share, and the arguments that pass them on. */
#define P_S (CK_SESSION_HANDLE s)
#define A_S (s)
#define P_IN (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG n)
#define A_IN (s, in, n)
#define P_OUT (CK_SESSION_HANDLE s, CK_BYTE_PTR out, CK_ULONG_PTR size)
#define A_OUT (s, out, size)
#define P_INOUT (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG n, CK_BYTE_PTR out, CK_ULONG_PTR size)
#define A_INOUT (s, in, n, out, size)
#define P_KEY (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key)
#define A_KEY (s, m, key)
#define P_ATTRIBUTES (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR t, CK_ULONG n)
#define A_ATTRIBUTES (s, object, t, n)

CALL(C_GetFunctionList, LOCAL, (CK_FUNCTION_LIST_PTR_PTR list), (list))

CALL(C_Initialize, ALONE, (CK_VOID_PTR args), (args))
CALL(C_Finalize, ALONE, (CK_VOID_PTR reserved), (reserved))
PLAIN(C_GetInfo, LIBRARY, (CK_INFO_PTR info), (info))
PLAIN(C_WaitForSlotEvent, WAITING, (CK_FLAGS flags, CK_SLOT_ID_PTR slot, CK_VOID_PTR reserved), (flags, slot, reserved))

CALL(C_GetSlotList, LIBRARY, (CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count), (present, slots, count))
CALL(C_GetSlotInfo, LIBRARY, (CK_SLOT_ID slot, CK_SLOT_INFO_PTR info), (slot, info))
CALL(C_GetTokenInfo, TOKEN, (CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info), (slot, info))
CALL(C_GetMechanismList, TOKEN, (CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR count), (slot, list, count))
CALL(C_GetMechanismInfo, TOKEN, (CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info), (slot, type, info))
PLAIN(C_InitToken, TOKEN, (CK_SLOT_ID slot, CK_UTF8CHAR_PTR pin, CK_ULONG n, CK_UTF8CHAR_PTR label), (slot, pin, n, label))
PLAIN(C_InitPIN, SESSION, P_IN, A_IN)
PLAIN(C_SetPIN, SESSION, (CK_SESSION_HANDLE s, CK_UTF8CHAR_PTR old, CK_ULONG o, CK_UTF8CHAR_PTR new, CK_ULONG n), (s, old, o, new, n))

/* The handle of a session that the caller will not learn of is lost, so it must not be in the caller's variable. */
CK_RV C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR context, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR session)
{
	struct call call = {.function = F_C_OpenSession, .scope = TOKEN};
	CK_SESSION_HANDLE opened = CK_INVALID_HANDLE;
	CK_RV rv;
	if (shim_enter(&call, &rv))
		rv = do_C_OpenSession(slot, flags, context, notify, session != NULL ? &opened : NULL);
	CK_RV answer = shim_leave(&call, rv);
	if (rv == CKR_OK && answer == CKR_OK)
		*session = opened;
	else if (rv == CKR_OK)
		session_lost(opened);
	return answer;
}

CALL(C_CloseSession, SESSION, P_S, A_S)
CALL(C_CloseAllSessions, TOKEN, (CK_SLOT_ID slot), (slot))
PLAIN(C_GetSessionInfo, SESSION, (CK_SESSION_HANDLE s, CK_SESSION_INFO_PTR info), (s, info))
PLAIN(C_GetOperationState, SESSION, P_OUT, A_OUT)
PLAIN(C_SetOperationState, SESSION, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG n, CK_OBJECT_HANDLE key, CK_OBJECT_HANDLE mac), (s, in, n, key, mac))
CALL(C_Login, SESSION, (CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG n), (s, user, pin, n))
PLAIN(C_Logout, SESSION, P_S, A_S)

PLAIN(C_CreateObject, SESSION, (CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR t, CK_ULONG n, CK_OBJECT_HANDLE_PTR object), (s, t, n, object))
PLAIN(C_CopyObject, SESSION, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE from, CK_ATTRIBUTE_PTR t, CK_ULONG n, CK_OBJECT_HANDLE_PTR object), (s, from, t, n, object))
PLAIN(C_DestroyObject, SESSION, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object), (s, object))
PLAIN(C_GetObjectSize, SESSION, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ULONG_PTR size), (s, object, size))
CALL(C_GetAttributeValue, SESSION, P_ATTRIBUTES, A_ATTRIBUTES)
PLAIN(C_SetAttributeValue, SESSION, P_ATTRIBUTES, A_ATTRIBUTES)
CALL(C_FindObjectsInit, SESSION, (CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR t, CK_ULONG n), (s, t, n))
CALL(C_FindObjects, SESSION, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE_PTR objects, CK_ULONG max, CK_ULONG_PTR count), (s, objects, max, count))
CALL(C_FindObjectsFinal, SESSION, P_S, A_S)

MECHANISM(C_EncryptInit, P_KEY, A_KEY)
PLAIN(C_Encrypt, SESSION, P_INOUT, A_INOUT)
PLAIN(C_EncryptUpdate, SESSION, P_INOUT, A_INOUT)
PLAIN(C_EncryptFinal, SESSION, P_OUT, A_OUT)
MECHANISM(C_DecryptInit, P_KEY, A_KEY)
PLAIN(C_Decrypt, SESSION, P_INOUT, A_INOUT)
PLAIN(C_DecryptUpdate, SESSION, P_INOUT, A_INOUT)
PLAIN(C_DecryptFinal, SESSION, P_OUT, A_OUT)
MECHANISM(C_DigestInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m), (s, m))
PLAIN(C_Digest, SESSION, P_INOUT, A_INOUT)
PLAIN(C_DigestUpdate, SESSION, P_IN, A_IN)
PLAIN(C_DigestKey, SESSION, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key), (s, key))
PLAIN(C_DigestFinal, SESSION, P_OUT, A_OUT)
CALL(C_SignInit, SESSION, P_KEY, A_KEY)
CALL(C_Sign, SESSION, P_INOUT, A_INOUT)
CALL(C_SignUpdate, SESSION, P_IN, A_IN)
CALL(C_SignFinal, SESSION, P_OUT, A_OUT)
MECHANISM(C_SignRecoverInit, P_KEY, A_KEY)
PLAIN(C_SignRecover, SESSION, P_INOUT, A_INOUT)
MECHANISM(C_VerifyInit, P_KEY, A_KEY)
PLAIN(C_Verify, SESSION, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG n, CK_BYTE_PTR sig, CK_ULONG size), (s, in, n, sig, size))
PLAIN(C_VerifyUpdate, SESSION, P_IN, A_IN)
PLAIN(C_VerifyFinal, SESSION, P_IN, A_IN)
MECHANISM(C_VerifyRecoverInit, P_KEY, A_KEY)
PLAIN(C_VerifyRecover, SESSION, P_INOUT, A_INOUT)
PLAIN(C_DigestEncryptUpdate, SESSION, P_INOUT, A_INOUT)
PLAIN(C_DecryptDigestUpdate, SESSION, P_INOUT, A_INOUT)
PLAIN(C_SignEncryptUpdate, SESSION, P_INOUT, A_INOUT)
PLAIN(C_DecryptVerifyUpdate, SESSION, P_INOUT, A_INOUT)

MECHANISM(C_GenerateKey,
          (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR t, CK_ULONG n, CK_OBJECT_HANDLE_PTR key),
          (s, m, t, n, key))
MECHANISM(C_GenerateKeyPair,
          (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR public, CK_ULONG p, CK_ATTRIBUTE_PTR private,
           CK_ULONG q, CK_OBJECT_HANDLE_PTR public_key, CK_OBJECT_HANDLE_PTR private_key),
          (s, m, public, p, private, q, public_key, private_key))
MECHANISM(C_WrapKey,
          (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE with, CK_OBJECT_HANDLE key, CK_BYTE_PTR out, CK_ULONG_PTR size),
          (s, m, with, key, out, size))
MECHANISM(C_UnwrapKey,
          (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE with, CK_BYTE_PTR in, CK_ULONG n, CK_ATTRIBUTE_PTR t,
           CK_ULONG count, CK_OBJECT_HANDLE_PTR key),
          (s, m, with, in, n, t, count, key))
MECHANISM(C_DeriveKey,
          (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE base, CK_ATTRIBUTE_PTR t, CK_ULONG n, CK_OBJECT_HANDLE_PTR key),
          (s, m, base, t, n, key))

PLAIN(C_SeedRandom, SESSION, P_IN, A_IN)
PLAIN(C_GenerateRandom, SESSION, P_IN, A_IN)
PLAIN(C_GetFunctionStatus, SESSION, P_S, A_S)
PLAIN(C_CancelFunction, SESSION, P_S, A_S)

static CK_FUNCTION_LIST functions = {
	.version = {2, 40},
#define CK_PKCS11_FUNCTION_INFO(name) .name = name,
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
};

CK_RV do_C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
	if (list == NULL)
		return CKR_ARGUMENTS_BAD;
	*list = &functions;
	return CKR_OK;
}
