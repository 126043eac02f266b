/* Signing with a virtual ML-DSA key, as PKCS #11 v3.2, Section 6.67 (ML-DSA) says. Package faultp11 does the arithmetic. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "shim.h"

#define CKM_ML_DSA 0x0000001dUL
#define CKH_DETERMINISTIC_REQUIRED 0x00000002UL /* the highest; CKH_HEDGE_PREFERRED is 0, CKH_HEDGE_REQUIRED is 1 */

typedef struct CK_SIGN_ADDITIONAL_CONTEXT {
	CK_ULONG hedgeVariant;
	CK_BYTE_PTR pContext;
	CK_ULONG ulContextLen;
} CK_SIGN_ADDITIONAL_CONTEXT;

struct signing {
	CK_OBJECT_HANDLE key;
	CK_ULONG hedge, context_length;
	CK_BYTE context[255]; /* FIPS 204, Section 5.2 */
	CK_BYTE *message;     /* what C_SignUpdate has collected */
	CK_ULONG length;
	int updated;
};

void signing_free(struct signing *signing)
{
	if (signing != NULL)
		free(signing->message);
	free(signing);
}

/* take returns the session's operation with a virtual key, which is the caller's from then on, or NULL. */
static struct signing *take(CK_SESSION_HANDLE session)
{
	if (!object_any())
		return NULL;
	pthread_mutex_lock(&shim_state);
	struct session *s = session_find(session);
	struct signing *signing = s != NULL ? s->signing : NULL;
	if (s != NULL)
		s->signing = NULL;
	pthread_mutex_unlock(&shim_state);
	return signing;
}

/* put makes it the session's operation. */
static CK_RV put(CK_SESSION_HANDLE session, struct signing *signing)
{
	pthread_mutex_lock(&shim_state);
	struct session *s = session_find(session);
	CK_RV rv = s == NULL ? CKR_SESSION_HANDLE_INVALID : s->signing != NULL ? CKR_OPERATION_ACTIVE : CKR_OK;
	if (rv == CKR_OK)
		s->signing = signing;
	pthread_mutex_unlock(&shim_state);
	if (rv != CKR_OK)
		signing_free(signing);
	return rv;
}

static int transfer(int fd, void *data, CK_ULONG length, int sends)
{
	for (CK_BYTE *at = data; length > 0;) {
		ssize_t n = sends ? send(fd, at, length, MSG_NOSIGNAL) : recv(fd, at, length, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		at += n;
		length -= (CK_ULONG)n;
	}
	return 1;
}

/* ask sends hedge, context length, message length, context, message, and receives the length of the signature, and it. */
static CK_RV ask(struct object *key, struct signing *s, CK_BYTE_PTR message, CK_ULONG length, CK_BYTE_PTR signature)
{
	CK_ULONG head[3] = {s->hedge, s->context_length, length}, got = 0;
	pthread_mutex_lock(&key->busy);
	int ok = key->fd >= 0 && transfer(key->fd, head, sizeof head, 1) && transfer(key->fd, s->context, s->context_length, 1) &&
	         transfer(key->fd, message, length, 1) && transfer(key->fd, &got, sizeof got, 0) &&
	         got == key->signature_length && transfer(key->fd, signature, got, 0);
	pthread_mutex_unlock(&key->busy);
	return ok ? CKR_OK : CKR_DEVICE_ERROR;
}

static CK_RV begin(struct signing *signing, CK_MECHANISM_PTR mechanism)
{
	if (mechanism->ulParameterLen == 0)
		return CKR_OK;
	CK_SIGN_ADDITIONAL_CONTEXT parameter;
	if (mechanism->ulParameterLen != sizeof parameter || mechanism->pParameter == NULL)
		return CKR_MECHANISM_PARAM_INVALID;
	memcpy(&parameter, mechanism->pParameter, sizeof parameter);
	if (parameter.hedgeVariant > CKH_DETERMINISTIC_REQUIRED || parameter.ulContextLen > sizeof signing->context ||
	    (parameter.ulContextLen > 0 && parameter.pContext == NULL))
		return CKR_MECHANISM_PARAM_INVALID;
	signing->hedge = parameter.hedgeVariant;
	signing->context_length = parameter.ulContextLen;
	if (parameter.ulContextLen > 0)
		memcpy(signing->context, parameter.pContext, parameter.ulContextLen);
	return CKR_OK;
}

/* refuse returns the code for a key that is not an ML-DSA key. */
static CK_RV refuse(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
	CK_OBJECT_CLASS class;
	CK_ATTRIBUTE attribute = {CKA_CLASS, &class, sizeof class};
	CK_RV rv = shim_real->C_GetAttributeValue(session, key, &attribute, 1);
	if (rv == CKR_OBJECT_HANDLE_INVALID)
		return CKR_KEY_HANDLE_INVALID;
	return rv != CKR_OK ? rv : CKR_KEY_TYPE_INCONSISTENT;
}

CK_RV do_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE handle)
{
	CK_RV rv;
	if (mechanism_removed(mechanism))
		return CKR_MECHANISM_INVALID;
	if (!object_any() || mechanism == NULL)
		return shim_real->C_SignInit(session, mechanism, handle);
	pthread_mutex_lock(&shim_state);
	struct session *s = session_find(session);
	int active = s != NULL && s->signing != NULL;
	CK_SLOT_ID slot = s != NULL ? s->slot : 0;
	pthread_mutex_unlock(&shim_state);
	if (active)
		return CKR_OPERATION_ACTIVE;

	struct object *key = object_find(handle);
	if (key == NULL && mechanism->mechanism == CKM_ML_DSA)
		return refuse(session, handle);
	if (key == NULL)
		return shim_real->C_SignInit(session, mechanism, handle);
	int user = logged_in(session, &rv);
	if (rv != CKR_OK)
		return rv;
	if (mechanism->mechanism != CKM_ML_DSA) {
		CK_MECHANISM_INFO info;
		rv = shim_real->C_GetMechanismInfo(slot, mechanism->mechanism, &info);
		return rv != CKR_OK ? rv : CKR_KEY_TYPE_INCONSISTENT;
	}
	if (key->private && !user)
		return CKR_USER_NOT_LOGGED_IN;
	if (key->signature_length == 0)
		return CKR_KEY_FUNCTION_NOT_PERMITTED;
	struct signing *signing = calloc(1, sizeof *signing);
	if (signing == NULL)
		return CKR_HOST_MEMORY;
	signing->key = handle;
	if ((rv = begin(signing, mechanism)) != CKR_OK) {
		signing_free(signing);
		return rv;
	}
	return put(session, signing);
}

/* finish ends the operation with a signature, unless the caller only wants the length or has not enough room. */
static CK_RV finish(CK_SESSION_HANDLE session, struct signing *signing, CK_BYTE_PTR message, CK_ULONG length,
                    CK_BYTE_PTR signature, CK_ULONG_PTR size)
{
	CK_RV rv;
	struct object *key = object_find(signing->key);
	int user = logged_in(session, &rv);
	if (rv == CKR_OK && !user)
		rv = CKR_USER_NOT_LOGGED_IN;
	if (rv == CKR_OK && (key == NULL || size == NULL || (message == NULL && length > 0)))
		rv = CKR_ARGUMENTS_BAD;
	if (rv == CKR_OK) {
		CK_ULONG room = *size;
		*size = key->signature_length;
		if (signature == NULL || room < key->signature_length) {
			CK_RV kept = put(session, signing);
			return kept != CKR_OK ? kept : signature == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
		}
		rv = ask(key, signing, message, length, signature);
	}
	signing_free(signing);
	return rv;
}

CK_RV do_C_Sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature, CK_ULONG_PTR size)
{
	struct signing *signing = take(session);
	if (signing == NULL)
		return shim_real->C_Sign(session, data, length, signature, size);
	if (signing->updated) {
		signing_free(signing);
		return CKR_OPERATION_ACTIVE;
	}
	return finish(session, signing, data, length, signature, size);
}

CK_RV do_C_SignUpdate(CK_SESSION_HANDLE session, CK_BYTE_PTR part, CK_ULONG length)
{
	struct signing *signing = take(session);
	if (signing == NULL)
		return shim_real->C_SignUpdate(session, part, length);
	CK_BYTE *longer = length > 0 && part == NULL ? NULL : realloc(signing->message, signing->length + length + 1);
	if (longer == NULL) {
		signing_free(signing);
		return CKR_ARGUMENTS_BAD;
	}
	if (length > 0)
		memcpy(longer + signing->length, part, length);
	signing->message = longer;
	signing->length += length;
	signing->updated = 1;
	return put(session, signing);
}

CK_RV do_C_SignFinal(CK_SESSION_HANDLE session, CK_BYTE_PTR signature, CK_ULONG_PTR size)
{
	struct signing *signing = take(session);
	if (signing == NULL)
		return shim_real->C_SignFinal(session, signature, size);
	return finish(session, signing, signing->message, signing->length, signature, size);
}
