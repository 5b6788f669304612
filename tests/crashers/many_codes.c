/* Maps so much code first that little room may be left for what comes after it, and
 * dies in a callback of libc's, whose own code lies above: many_codes KIND COUNT, where
 * KIND is `anonymous`, as code made at run time is, `one_file`, or `files`, a file for
 * each. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((noinline)) static int crash_here(const void *a, const void *b)
{
	volatile int *volatile null = 0;

	*null = *(const int *)a;
	return *(const int *)b;
}

static int file_of(const char *name)
{
	int file = memfd_create(name, 0);

	if (file < 0 || ftruncate(file, 1 << 24))
		exit(2);
	return file;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 2 ? argv[1] : "";
	int count = argc > 2 ? atoi(argv[2]) : 0, file = -1, numbers[64];

	if (strcmp(kind, "one_file") == 0)
		file = file_of("one");
	for (int i = 0; i < count; i++) {
		char name[16];
		int flags = MAP_PRIVATE;

		/* A page between, or they would become one. */
		mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (strcmp(kind, "files") == 0) {
			snprintf(name, sizeof(name), "code-%d", i);
			file = file_of(name);
		}
		if (file < 0)
			flags |= MAP_ANONYMOUS;
		if (mmap(0, 4096, PROT_READ | PROT_EXEC, flags, file, file < 0 ? 0 : (i % 4096) * 4096l) == MAP_FAILED)
			return 3;
		if (strcmp(kind, "files") == 0)
			close(file);
	}
	for (int i = 0; i < 64; i++)
		numbers[i] = 64 - i;
	qsort(numbers, 64, sizeof(*numbers), crash_here);
	return numbers[0];
}
