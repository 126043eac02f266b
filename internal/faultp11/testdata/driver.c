/*
 * Calls the shim as C programs do, linked with it and under the sanitizers, and checks what Go can't see through
 * miekg/pkcs11: several attributes in one call, buffers that are too small, and the functions that it doesn't have.
 *
 *	driver MODULE SLOT PIN
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

#define CONTROL(name) CK_ULONG shim_control_##name(const CK_ULONG *a, void *data, CK_ULONG length)
CONTROL(configure);
CONTROL(override);
CONTROL(clear_overrides);
CONTROL(mechanism);
CONTROL(object);
CONTROL(rules);
CONTROL(count);
CONTROL(sessions);
CONTROL(remove);
CONTROL(insert);

static int failures;

#define EXPECT(what, want)                                                                      \
	do {                                                                                        \
		CK_ULONG got_ = (what), want_ = (want);                                                 \
		if (got_ != want_) {                                                                    \
			printf("line %d: %s = %#lx, want %s = %#lx\n", __LINE__, #what, got_, #want, want_); \
			failures++;                                                                         \
		}                                                                                       \
	} while (0)

static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE public, private;

static void generate(void)
{
	CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
	CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
	CK_ATTRIBUTE pub[] = {{CKA_EC_PARAMS, p256, sizeof p256}, {CKA_LABEL, "key", 3}, {CKA_ID, "id", 2}};
	CK_ATTRIBUTE priv[] = {{CKA_LABEL, "key", 3}, {CKA_ID, "id", 2}};
	EXPECT(C_GenerateKeyPair(session, &mechanism, pub, 3, priv, 2, &public, &private), CKR_OK);
}

static void override(CK_ULONG kind, CK_ULONG type, CK_ULONG length, char *data)
{
	shim_control_override((CK_ULONG[8]){kind, CKO_PUBLIC_KEY, type, length, 3}, data, strlen(data));
}

static void attributes(void)
{
	CK_BYTE label[8], id[8], point[80];
	CK_ATTRIBUTE t[] = {{CKA_LABEL, label, sizeof label}, {CKA_ID, id, sizeof id}, {CKA_EC_POINT, point, sizeof point}};

	override(HIDE, CKA_ID, 0, "key");
	EXPECT(C_GetAttributeValue(session, public, t, 3), CKR_ATTRIBUTE_TYPE_INVALID);
	EXPECT(t[0].ulValueLen, 3);
	EXPECT(memcmp(label, "key", 3), 0);
	EXPECT(t[1].ulValueLen, CK_UNAVAILABLE_INFORMATION);
	EXPECT(t[2].ulValueLen, 67);
	EXPECT(point[0], 4);

	override(ABSURD, CKA_EC_POINT, 1UL << 40, "key");
	t[1] = (CK_ATTRIBUTE){CKA_EC_POINT, NULL, 0};
	EXPECT(C_GetAttributeValue(session, public, &t[1], 1), CKR_OK);
	EXPECT(t[1].ulValueLen, 1UL << 40);
	t[2].ulValueLen = sizeof point;
	t[0].ulValueLen = sizeof label;
	EXPECT(C_GetAttributeValue(session, public, t, 3), CKR_BUFFER_TOO_SMALL);
	EXPECT(t[2].ulValueLen, 1UL << 40);
	EXPECT(t[0].ulValueLen, 3);

	override(SET, CKA_ID, 5, "keyvalue");
	t[1] = (CK_ATTRIBUTE){CKA_ID, NULL, 0};
	EXPECT(C_GetAttributeValue(session, public, &t[1], 1), CKR_OK);
	EXPECT(t[1].ulValueLen, 5);
	t[1] = (CK_ATTRIBUTE){CKA_ID, id, 4};
	EXPECT(C_GetAttributeValue(session, public, &t[1], 1), CKR_BUFFER_TOO_SMALL);
	EXPECT(t[1].ulValueLen, CK_UNAVAILABLE_INFORMATION);
	t[1].ulValueLen = 5;
	EXPECT(C_GetAttributeValue(session, public, &t[1], 1), CKR_OK);
	EXPECT(memcmp(id, "value", 5), 0);

	/* A real attribute next to one that is changed may be at fault, too. */
	t[0] = (CK_ATTRIBUTE){CKA_LABEL, label, 1};
	EXPECT(C_GetAttributeValue(session, public, t, 2), CKR_BUFFER_TOO_SMALL);
	EXPECT(t[0].ulValueLen, CK_UNAVAILABLE_INFORMATION);
	EXPECT(t[1].ulValueLen, 5);
	EXPECT(C_GetAttributeValue(session, 4711, t, 2), CKR_OBJECT_HANDLE_INVALID);
	shim_control_clear_overrides(NULL, NULL, 0);
}

static void mechanisms(CK_SLOT_ID slot)
{
	CK_ULONG before, after, n;
	CK_MECHANISM_TYPE list[512];
	EXPECT(C_GetMechanismList(slot, NULL, &before), CKR_OK);
	shim_control_mechanism((CK_ULONG[8]){0x7777, 1, 1, 2, 3}, NULL, 0);
	EXPECT(C_GetMechanismList(slot, NULL, &after), CKR_OK);
	EXPECT(after, before + 1);
	n = before;
	EXPECT(C_GetMechanismList(slot, list, &n), CKR_BUFFER_TOO_SMALL);
	EXPECT(n, after);
	EXPECT(C_GetMechanismList(slot, list, &n), CKR_OK);
	EXPECT(list[n - 1], 0x7777);
	EXPECT(C_GetMechanismList(slot, list, NULL), CKR_ARGUMENTS_BAD);
	EXPECT(C_GetSlotList(CK_TRUE, NULL, NULL), CKR_ARGUMENTS_BAD);
}

/* A virtual key whose socket is not connected: everything but the signature itself. */
static void virtual_key(void)
{
	CK_ULONG class = CKO_PRIVATE_KEY;
	CK_ULONG data[] = {CKA_CLASS, sizeof class, class, CKA_VALUE, CK_UNAVAILABLE_INFORMATION};
	EXPECT(shim_control_object((CK_ULONG[8]){100}, data, sizeof data), 0);
	CK_ATTRIBUTE t = {CKA_CLASS, &class, sizeof class};
	CK_OBJECT_HANDLE found[4], key;
	CK_ULONG n;
	EXPECT(C_FindObjectsInit(session, &t, 1), CKR_OK);
	EXPECT(C_FindObjects(session, &key, 1, &n), CKR_OK);
	EXPECT(n, 1);
	EXPECT(C_FindObjects(session, found, 4, &n), CKR_OK);
	EXPECT(n, 1);
	EXPECT(found[0], private);
	EXPECT(C_FindObjects(session, found, 4, &n), CKR_OK);
	EXPECT(n, 0);
	EXPECT(C_FindObjectsFinal(session), CKR_OK);
	EXPECT(C_FindObjectsFinal(session), CKR_OPERATION_NOT_INITIALIZED);
	EXPECT(C_GetAttributeValue(session, key, NULL, 0), CKR_ARGUMENTS_BAD);

	CK_MECHANISM mechanism = {0x1d, NULL, 0};
	CK_BYTE signature[100];
	EXPECT(C_SignInit(session, NULL, key), CKR_ARGUMENTS_BAD);
	mechanism.ulParameterLen = 3 * sizeof(CK_ULONG);
	EXPECT(C_SignInit(session, &mechanism, key), CKR_MECHANISM_PARAM_INVALID);
	mechanism.ulParameterLen = 0;
	EXPECT(C_SignInit(session, &mechanism, key), CKR_OK);
	n = 0;
	EXPECT(C_Sign(session, (CK_BYTE_PTR) "m", 1, NULL, &n), CKR_OK);
	EXPECT(n, 100);
	n = 99;
	EXPECT(C_Sign(session, (CK_BYTE_PTR) "m", 1, signature, &n), CKR_BUFFER_TOO_SMALL);
	EXPECT(n, 100);
	EXPECT(C_Sign(session, (CK_BYTE_PTR) "m", 1, signature, &n), CKR_DEVICE_ERROR);
	EXPECT(C_Sign(session, (CK_BYTE_PTR) "m", 1, signature, &n), CKR_OPERATION_NOT_INITIALIZED);
	EXPECT(C_SignInit(session, &mechanism, key), CKR_OK);
	EXPECT(C_Sign(session, NULL, 1, signature, &n), CKR_ARGUMENTS_BAD);
	EXPECT(C_SignInit(session, &mechanism, key), CKR_OK);
	EXPECT(C_SignUpdate(session, (CK_BYTE_PTR) "m", 1), CKR_OK);
	EXPECT(C_Sign(session, (CK_BYTE_PTR) "m", 1, signature, &n), CKR_OPERATION_ACTIVE);
	EXPECT(C_SignFinal(session, signature, &n), CKR_OPERATION_NOT_INITIALIZED);
	/* Left open, with a message, for the session to free. */
	EXPECT(C_SignInit(session, &mechanism, key), CKR_OK);
	EXPECT(C_SignUpdate(session, (CK_BYTE_PTR) "m", 1), CKR_OK);
}

static void counted(enum function function, CK_RV rv)
{
	EXPECT(rv, 0x80001234);
	EXPECT(shim_control_count((CK_ULONG[8]){function}, NULL, 0), 1);
}

/* What miekg/pkcs11 doesn't call. */
static void rest(void)
{
	struct rule all = {.function = F_COUNT, .code = 0x80001234, .times = CK_UNAVAILABLE_INFORMATION};
	CK_ULONG n = 0;
	CK_SLOT_ID slot;
	CK_FUNCTION_LIST_PTR list;
	shim_control_rules(NULL, &all, sizeof all);
	counted(F_C_GetFunctionStatus, C_GetFunctionStatus(session));
	counted(F_C_CancelFunction, C_CancelFunction(session));
	counted(F_C_WaitForSlotEvent, C_WaitForSlotEvent(CKF_DONT_BLOCK, &slot, NULL));
	counted(F_C_VerifyRecover, C_VerifyRecover(session, NULL, 0, NULL, &n));
	counted(F_C_GetFunctionList, C_GetFunctionList(&list));
	shim_control_rules(NULL, NULL, 0);
	EXPECT(C_GetFunctionStatus(session), CKR_FUNCTION_NOT_PARALLEL);
	EXPECT(C_CancelFunction(session), CKR_FUNCTION_NOT_PARALLEL);
	EXPECT(C_VerifyRecover(session, NULL, 0, NULL, &n), CKR_FUNCTION_NOT_SUPPORTED);
	EXPECT(shim_control_remove(NULL, NULL, 0), CKR_OK);
	EXPECT(C_GetFunctionStatus(session), CKR_DEVICE_REMOVED);
	EXPECT(C_CancelFunction(session), CKR_DEVICE_REMOVED);
	EXPECT(C_VerifyRecover(session, NULL, 0, NULL, &n), CKR_DEVICE_REMOVED);
	shim_control_insert(NULL, NULL, 0);
	EXPECT(C_GetFunctionList(NULL), CKR_ARGUMENTS_BAD);
	EXPECT(C_GetFunctionList(&list), CKR_OK);
	EXPECT(list->version.major, 2);
	EXPECT(list->C_WaitForSlotEvent == C_WaitForSlotEvent, 1);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	CK_SLOT_ID slot = strtoul(argv[2], NULL, 10);
	shim_control_configure(NULL, argv[1], strlen(argv[1]));
	EXPECT(C_GenerateRandom(1, NULL, 0), CKR_CRYPTOKI_NOT_INITIALIZED);
	EXPECT(C_Initialize(NULL), CKR_OK);
	EXPECT(C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, NULL), CKR_ARGUMENTS_BAD);
	EXPECT(C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session), CKR_OK);
	EXPECT(shim_control_sessions((CK_ULONG[8]){0}, NULL, 0), 1);
	EXPECT(C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)argv[3], strlen(argv[3])), CKR_OK);
	generate();
	attributes();
	mechanisms(slot);
	virtual_key();
	rest();
	EXPECT(C_Finalize(NULL), CKR_OK);
	EXPECT(shim_control_sessions((CK_ULONG[8]){0}, NULL, 0), 0);
	return failures != 0;
}
