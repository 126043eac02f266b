/* Attributes that are not what the token says. */
#include <stdlib.h>
#include <string.h>

#include "shim.h"

enum { MAX_LABEL = 256 };

struct override {
	struct override *next;
	enum override_kind kind;
	CK_OBJECT_CLASS class; /* CK_UNAVAILABLE_INFORMATION: any */
	CK_ATTRIBUTE_TYPE type;
	CK_ULONG length; /* of value, or the absurd one */
	CK_ULONG label_length; /* 0: any object */
	CK_BYTE data[]; /* label, then value */
};

/* Newest first. Entries are never freed, so that calls can use them without a lock. */
static _Atomic(struct override *) overrides;

void override_add(enum override_kind kind, CK_OBJECT_CLASS class, CK_ATTRIBUTE_TYPE type, CK_ULONG length,
                  const char *label, CK_ULONG label_length, const void *value)
{
	CK_ULONG value_length = kind == SET ? length : 0;
	struct override *o = malloc(sizeof *o + label_length + value_length);
	if (o == NULL)
		abort();
	*o = (struct override){NULL, kind, class, type, length, label_length};
	if (label_length > 0)
		memcpy(o->data, label, label_length);
	if (value_length > 0)
		memcpy(o->data + label_length, value, value_length);
	pthread_mutex_lock(&shim_state);
	o->next = atomic_load(&overrides);
	atomic_store(&overrides, o);
	pthread_mutex_unlock(&shim_state);
}

void overrides_clear(void) { atomic_store(&overrides, NULL); }

/* attribute_answer gives a value to the caller as C_GetAttributeValue does. */
CK_RV attribute_answer(CK_ATTRIBUTE_PTR attribute, const void *value, CK_ULONG length)
{
	if (attribute->pValue != NULL && attribute->ulValueLen < length) {
		attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		return CKR_BUFFER_TOO_SMALL;
	}
	if (attribute->pValue != NULL && length > 0)
		memcpy(attribute->pValue, value, length);
	attribute->ulValueLen = length;
	return CKR_OK;
}

static CK_RV answer(const struct override *o, CK_ATTRIBUTE_PTR attribute)
{
	switch (o->kind) {
	case HIDE:
		attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		return CKR_ATTRIBUTE_TYPE_INVALID;
	case ABSURD:
		attribute->ulValueLen = o->length;
		return attribute->pValue == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
	default:
		return attribute_answer(attribute, o->data + o->label_length, o->length);
	}
}

/* get is C_GetAttributeValue without overrides. */
static CK_RV get(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE handle, CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
	struct object *object = object_find(handle);
	if (object != NULL)
		return object_get(session, object, template, count);
	return shim_real->C_GetAttributeValue(session, handle, template, count);
}

CK_RV do_C_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
	const struct override *first = atomic_load(&overrides);
	if (first == NULL || template == NULL || count == 0)
		return get(session, object, template, count);
	CK_OBJECT_CLASS class;
	CK_ATTRIBUTE known = {CKA_CLASS, &class, sizeof class};
	if (get(session, object, &known, 1) != CKR_OK)
		return get(session, object, template, count);
	CK_BYTE text[MAX_LABEL];
	CK_ATTRIBUTE label = {CKA_LABEL, text, sizeof text};
	if (get(session, object, &label, 1) != CKR_OK)
		label.ulValueLen = 0;

	CK_ATTRIBUTE *rest = calloc(count, sizeof *rest); /* what the object itself is asked for */
	CK_ULONG *place = calloc(count, sizeof *place), left = 0;
	CK_RV rv = CKR_HOST_MEMORY;
	if (rest == NULL || place == NULL)
		goto out;
	rv = CKR_OK;
	for (CK_ULONG i = 0; i < count; i++) {
		const struct override *o = first;
		while (o != NULL && (o->type != template[i].type || (o->class != CK_UNAVAILABLE_INFORMATION && o->class != class) ||
		                     (o->label_length > 0 && (o->label_length != label.ulValueLen || memcmp(o->data, text, o->label_length) != 0))))
			o = o->next;
		if (o == NULL) {
			rest[left] = template[i];
			place[left++] = i;
			continue;
		}
		CK_RV one = answer(o, &template[i]);
		if (one != CKR_OK)
			rv = one;
	}
	if (left > 0) {
		CK_RV others = get(session, object, rest, left);
		for (CK_ULONG i = 0; i < left; i++)
			template[place[i]].ulValueLen = rest[i].ulValueLen;
		if (others != CKR_OK)
			rv = others;
	}
out:
	free(rest);
	free(place);
	return rv;
}
