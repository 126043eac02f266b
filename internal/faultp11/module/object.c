/* Virtual objects, which the real token doesn't have. Every token of the module shows them. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim.h"

/*
 * A handle of a virtual object is FIRST_HANDLE + generation * MAX_OBJECTS + number, so that handles die with the
 * initialisation of the module that they were found in, as those of real objects do.
 */
enum { MAX_OBJECTS = 64 };
static const CK_OBJECT_HANDLE FIRST_HANDLE = 0x40000000;

atomic_ulong shim_generation;
static struct object objects[MAX_OBJECTS];
static atomic_ulong object_count; /* objects below it don't change, but for their fd */

int object_any(void) { return atomic_load(&object_count) > 0; }

static CK_OBJECT_HANDLE first(void) { return FIRST_HANDLE + atomic_load(&shim_generation) * MAX_OBJECTS; }

struct object *object_find(CK_OBJECT_HANDLE handle)
{
	CK_OBJECT_HANDLE from = first();
	return handle >= from && handle - from < atomic_load(&object_count) ? &objects[handle - from] : NULL;
}

/* object_add takes attributes as type, length, bytes, where the first two are CK_ULONGs, and returns the object's number. */
CK_ULONG object_add(const CK_BYTE *data, CK_ULONG length, CK_ULONG signature_length)
{
	pthread_mutex_lock(&shim_state);
	CK_ULONG number = atomic_load(&object_count);
	if (number == MAX_OBJECTS)
		abort();
	struct object *o = &objects[number];
	pthread_mutex_init(&o->busy, NULL);
	o->number = number;
	o->fd = -1;
	o->signature_length = signature_length;
	o->attributes = calloc(length / (2 * sizeof(CK_ULONG)) + 1, sizeof *o->attributes);
	if (o->attributes == NULL)
		abort();
	for (CK_ULONG at = 0; at + 2 * sizeof(CK_ULONG) <= length;) {
		CK_ATTRIBUTE *a = &o->attributes[o->count++];
		memcpy(&a->type, data + at, sizeof a->type);
		memcpy(&a->ulValueLen, data + at + sizeof a->type, sizeof a->ulValueLen);
		at += 2 * sizeof(CK_ULONG);
		if (a->ulValueLen == CK_UNAVAILABLE_INFORMATION)
			continue;
		if ((a->pValue = malloc(a->ulValueLen + 1)) == NULL)
			abort();
		memcpy(a->pValue, data + at, a->ulValueLen);
		at += a->ulValueLen;
		if (a->type == CKA_PRIVATE)
			o->private = *(CK_BBOOL *)a->pValue == CK_TRUE;
	}
	atomic_store(&object_count, number + 1);
	pthread_mutex_unlock(&shim_state);
	return number;
}

/* object_socket connects the object, and returns the other end of the connection. */
int object_socket(CK_ULONG number)
{
	struct object *o = &objects[number];
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		abort();
	pthread_mutex_lock(&o->busy);
	o->fd = ends[0];
	pthread_mutex_unlock(&o->busy);
	return ends[1];
}

/* object_detach closes the socket: the key can no longer sign. */
void object_detach(CK_ULONG number)
{
	struct object *o = &objects[number];
	pthread_mutex_lock(&o->busy);
	close(o->fd);
	o->fd = -1;
	pthread_mutex_unlock(&o->busy);
}

/* logged_in says whether the user is logged in, if *rv is CKR_OK; else the session is no session. */
int logged_in(CK_SESSION_HANDLE session, CK_RV *rv)
{
	CK_SESSION_INFO info;
	*rv = shim_real->C_GetSessionInfo(session, &info);
	return *rv == CKR_OK && (info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS);
}

static const CK_ATTRIBUTE *attribute(const struct object *object, CK_ATTRIBUTE_TYPE type)
{
	for (CK_ULONG i = 0; i < object->count; i++)
		if (object->attributes[i].type == type)
			return &object->attributes[i];
	return NULL;
}

CK_RV object_get(CK_SESSION_HANDLE session, struct object *object, CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
	CK_RV rv;
	int user = logged_in(session, &rv);
	if (rv != CKR_OK)
		return rv;
	if (object->private && !user)
		return CKR_OBJECT_HANDLE_INVALID;
	if (template == NULL || count == 0)
		return CKR_ARGUMENTS_BAD;
	for (CK_ULONG i = 0; i < count; i++) {
		const CK_ATTRIBUTE *a = attribute(object, template[i].type);
		CK_RV one;
		if (a == NULL || a->ulValueLen == CK_UNAVAILABLE_INFORMATION) {
			one = a == NULL ? CKR_ATTRIBUTE_TYPE_INVALID : CKR_ATTRIBUTE_SENSITIVE;
			template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
		} else {
			one = attribute_answer(&template[i], a->pValue, a->ulValueLen);
		}
		if (one != CKR_OK)
			rv = one;
	}
	return rv;
}

static int matches(const struct object *object, CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
	for (CK_ULONG i = 0; i < count; i++) {
		const CK_ATTRIBUTE *a = attribute(object, template[i].type);
		if (a == NULL || a->ulValueLen != template[i].ulValueLen || a->pValue == NULL ||
		    (a->ulValueLen > 0 && memcmp(a->pValue, template[i].pValue, a->ulValueLen) != 0))
			return 0;
	}
	return 1;
}

/* search replaces what the session's search has yet to return. */
static void search(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *found, CK_ULONG count)
{
	pthread_mutex_lock(&shim_state);
	struct session *s = session_find(session);
	if (s != NULL) {
		free(s->found);
		s->found = found;
		s->found_count = count;
		found = NULL;
	}
	pthread_mutex_unlock(&shim_state);
	free(found);
}

CK_RV do_C_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
	CK_RV rv = shim_real->C_FindObjectsInit(session, template, count);
	if (rv != CKR_OK || !object_any())
		return rv;
	CK_RV ignored;
	int user = logged_in(session, &ignored);
	CK_OBJECT_HANDLE *found = calloc(MAX_OBJECTS, sizeof *found), from = first();
	CK_ULONG n = 0, all = atomic_load(&object_count);
	for (CK_ULONG i = 0; found != NULL && i < all; i++)
		if ((user || !objects[i].private) && matches(&objects[i], template, count))
			found[n++] = from + i;
	search(session, found, n);
	return rv;
}

CK_RV do_C_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR handles, CK_ULONG max, CK_ULONG_PTR count)
{
	CK_ULONG n = 0;
	if (!object_any() || handles == NULL || count == NULL)
		return shim_real->C_FindObjects(session, handles, max, count);
	pthread_mutex_lock(&shim_state);
	struct session *s = session_find(session);
	while (s != NULL && s->found_count > 0 && n < max)
		handles[n++] = s->found[--s->found_count];
	pthread_mutex_unlock(&shim_state);
	if (n == max && n > 0) {
		*count = n;
		return CKR_OK;
	}
	CK_RV rv = shim_real->C_FindObjects(session, handles + n, max - n, count);
	if (rv == CKR_OK)
		*count += n;
	return rv;
}

CK_RV do_C_FindObjectsFinal(CK_SESSION_HANDLE session)
{
	CK_RV rv = shim_real->C_FindObjectsFinal(session);
	if (rv == CKR_OK && object_any())
		search(session, NULL, 0);
	return rv;
}
