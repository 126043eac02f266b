/* What the parts of the program share: the module, the token and failing. */
#include <stdint.h>

#define CK_PTR *
#define NULL_PTR 0
#define CK_DEFINE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#include "pkcs11.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FIELD(type, value) {type, &value, sizeof value} /* a CK_ATTRIBUTE */

/* What connect_token sets: the module's functions, the token's slot, and the read/write session that logged in. */
extern CK_FUNCTION_LIST_PTR p11;
extern CK_SLOT_ID slot;
extern CK_SESSION_HANDLE login;

void die(const char *what, const char *detail);
void check(const char *what, CK_RV rv);

/* now returns nanoseconds of a clock that nobody sets. */
int64_t now(void);

/* connect_token loads and initialises the module, finds the token and logs in, unless that was done before. */
void connect_token(void);

/* find returns the one object of that class and label. */
CK_OBJECT_HANDLE find(CK_OBJECT_CLASS class, const char *label);

/* The commands that make objects; see bench.c. */
void make(void);
void fill(int pairs, int data);
