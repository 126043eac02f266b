/* A module that claims what is not so, or crashes in C_GetFunctionList. */
#include <string.h>

#include "../cryptoki.h"

enum { ABSURD = 40 }; /* claims 2^40 bytes */

static ck_rv unsupported(void) { return 0x54; }
static ck_rv ok(void) { return 0; }

/* attributes claims success and absurd lengths, and leaves the buffers alone. */
static ck_rv attributes(ck_ulong session, ck_ulong object, ck_attribute *template, ck_ulong n)
{
	(void)session;
	for (ck_ulong i = 0; i < n; i++)
		template[i].length = object == 1 ? 1UL << ABSURD : ~0UL;
	return 0;
}

static ck_rv sign(ck_ulong session, ck_byte *in, ck_ulong in_length, ck_byte *out, ck_ulong *length)
{
	(void)session, (void)in, (void)in_length;
	memset(out, 'x', *length);
	*length = 1UL << ABSURD;
	return 0;
}

/* find never ends. */
static ck_rv find(ck_ulong session, ck_ulong *objects, ck_ulong most, ck_ulong *count)
{
	(void)session;
	for (ck_ulong i = 0; i < most; i++)
		objects[i] = i;
	*count = most;
	return 0;
}

__attribute__((visibility("default"))) ck_rv C_GetFunctionList(ck_function_list **list)
{
	static ck_function_list functions;
#ifdef CRASHES
	*(volatile int *)list = **(volatile int **)0;
#endif
	functions.version = (ck_version){2, 40};
	for (int i = 0; i < fn_count; i++)
		functions.fn[i] = (void *)unsupported;
	functions.fn[fn_Initialize] = functions.fn[fn_SignInit] = functions.fn[26] = functions.fn[28] = (void *)ok;
	functions.fn[fn_GetAttributeValue] = (void *)attributes;
	functions.fn[fn_Sign] = (void *)sign;
	functions.fn[27] = (void *)find;
	*list = &functions;
	return 0;
}
