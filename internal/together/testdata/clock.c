/* A wall clock that is as many seconds off as the file says that CLOCK_FILE names, at any moment, for a process that is
 * started with this library in LD_PRELOAD. Programs in C get it by the functions below. Go asks the vDSO without libc: so
 * its runtime is shown another one, whose symbol points here. Monotonic clocks are left alone, as a system that sets
 * its clock does.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;

/* Without libc, which is not prepared for being called on a stack of Go's. */
static long ask(clockid_t id, struct timespec *ts) {
#if defined(__x86_64__)
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_clock_gettime), "D"((long)id), "S"(ts) : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long number __asm__("x8") = SYS_clock_gettime, a __asm__("x0") = id, b __asm__("x1") = (long)ts;
	__asm__ volatile("svc 0" : "+r"(a) : "r"(number), "r"(b) : "memory");
	return a;
#endif
}

int clock_gettime(clockid_t id, struct timespec *ts) {
	long result = ask(id, ts);
	if (result == 0 && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += *offset;
	return (int)result;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
	struct timespec ts;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *out) {
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

/* Returns a copy of the vDSO, which can't be written itself, with the symbols where they were but for the clock's. */
static void *redirected(uintptr_t base) {
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = page; /* headers, symbols and names are in front of the code */
	char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return NULL;
	memcpy(copy, (void *)base, size);
	const ElfW(Ehdr) *head = (void *)copy;
	const ElfW(Phdr) *part = (void *)(copy + head->e_phoff);
	const ElfW(Dyn) *dynamic = NULL;
	uintptr_t load = 0; /* what addresses in the file are counted from; in the copy, moved as much further */
	for (int i = 0; i < head->e_phnum; i++) {
		if (part[i].p_type == PT_LOAD)
			load = base + part[i].p_offset - part[i].p_vaddr;
		if (part[i].p_type == PT_DYNAMIC)
			dynamic = (void *)(copy + part[i].p_offset);
	}
	const uintptr_t moved = (uintptr_t)copy - base;
	ElfW(Sym) *symbol = NULL;
	const char *names = NULL;
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
		if (dynamic->d_tag == DT_SYMTAB)
			symbol = (void *)(load + moved + dynamic->d_un.d_ptr);
		if (dynamic->d_tag == DT_STRTAB)
			names = (void *)(load + moved + dynamic->d_un.d_ptr);
	}
	for (; symbol && (const char *)(symbol + 1) <= names; symbol++) { /* the names come after the symbols */
		const char *name = names + symbol->st_name;
		if (!strcmp(name, "__vdso_clock_gettime") || !strcmp(name, "__kernel_clock_gettime"))
			symbol->st_value = (uintptr_t)clock_gettime - load - moved;
		else if (symbol->st_shndx != SHN_UNDEF)
			symbol->st_value -= moved;
	}
	return copy;
}

extern char **environ;

__attribute__((constructor)) static void start(void) {
	const char *name = getenv("CLOCK_FILE");
	int fd = name ? open(name, O_RDONLY) : -1;
	if (fd < 0)
		return;
	void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		return;
	offset = mapped;
	/* The auxiliary vector, where Go's runtime looks for the vDSO, is behind the environment. */
	char **end = environ;
	while (*end)
		end++;
	for (ElfW(auxv_t) *a = (void *)(end + 1); a->a_type != AT_NULL; a++) {
		void *vdso = a->a_type == AT_SYSINFO_EHDR ? redirected(a->a_un.a_val) : NULL;
		if (vdso)
			a->a_un.a_val = (uintptr_t)vdso;
	}
}
