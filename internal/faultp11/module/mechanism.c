/* Mechanisms that the token has or lacks by order. */
#include <stdlib.h>

#include "shim.h"

enum { MAX_CHANGES = 256 };

/* The last change of each mechanism. Guarded by shim_state, but change_count may be read without it. */
static struct change {
	CK_MECHANISM_TYPE mechanism;
	CK_ULONG min, max; /* key sizes */
	CK_FLAGS flags;
	int add;
} changes[MAX_CHANGES];
static atomic_ulong change_count;

void mechanism_change(CK_MECHANISM_TYPE mechanism, int add, CK_FLAGS flags, CK_ULONG min, CK_ULONG max)
{
	pthread_mutex_lock(&shim_state);
	CK_ULONG i = 0, count = atomic_load(&change_count);
	while (i < count && changes[i].mechanism != mechanism)
		i++;
	if (i == MAX_CHANGES)
		abort();
	changes[i] = (struct change){mechanism, min, max, flags, add};
	if (i == count)
		atomic_store(&change_count, count + 1);
	pthread_mutex_unlock(&shim_state);
}

/* lookup returns whether the mechanism was changed. */
static int lookup(CK_MECHANISM_TYPE mechanism, struct change *found)
{
	int ok = 0;
	if (atomic_load(&change_count) == 0)
		return 0;
	pthread_mutex_lock(&shim_state);
	CK_ULONG count = atomic_load(&change_count);
	for (CK_ULONG i = 0; i < count; i++)
		if (changes[i].mechanism == mechanism) {
			*found = changes[i];
			ok = 1;
		}
	pthread_mutex_unlock(&shim_state);
	return ok;
}

int mechanism_removed(CK_MECHANISM_PTR mechanism)
{
	struct change change;
	return mechanism != NULL && lookup(mechanism->mechanism, &change) && !change.add;
}

/* change_list applies the changes to a list of count mechanisms with room for MAX_CHANGES more, and returns its length. */
static CK_ULONG change_list(CK_MECHANISM_TYPE *list, CK_ULONG count)
{
	pthread_mutex_lock(&shim_state);
	CK_ULONG changed = atomic_load(&change_count);
	for (CK_ULONG i = 0; i < changed; i++) {
		CK_ULONG kept = 0;
		for (CK_ULONG j = 0; j < count; j++)
			if (list[j] != changes[i].mechanism)
				list[kept++] = list[j];
		count = kept;
		if (changes[i].add)
			list[count++] = changes[i].mechanism;
	}
	pthread_mutex_unlock(&shim_state);
	return count;
}

CK_RV do_C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR count)
{
	if (count == NULL || atomic_load(&change_count) == 0)
		return shim_real->C_GetMechanismList(slot, list, count);
	CK_ULONG have = 0;
	CK_RV rv = shim_real->C_GetMechanismList(slot, NULL, &have);
	if (rv != CKR_OK)
		return rv;
	CK_MECHANISM_TYPE *all = calloc(have + MAX_CHANGES, sizeof *all);
	if (all == NULL)
		return CKR_HOST_MEMORY;
	rv = shim_real->C_GetMechanismList(slot, all, &have);
	if (rv == CKR_OK) {
		have = change_list(all, have);
		if (list != NULL && *count < have)
			rv = CKR_BUFFER_TOO_SMALL;
		for (CK_ULONG i = 0; list != NULL && rv == CKR_OK && i < have; i++)
			list[i] = all[i];
		*count = have;
	}
	free(all);
	return rv;
}

CK_RV do_C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info)
{
	struct change change;
	int changed = lookup(type, &change);
	if (changed && !change.add)
		return CKR_MECHANISM_INVALID;
	CK_RV rv = shim_real->C_GetMechanismInfo(slot, type, info);
	if (!changed || info == NULL)
		return rv;
	if (rv == CKR_MECHANISM_INVALID) {
		info->ulMinKeySize = change.min;
		info->ulMaxKeySize = change.max;
		rv = CKR_OK;
	}
	if (rv == CKR_OK)
		info->flags = change.flags;
	return rv;
}
