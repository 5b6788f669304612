/* big_maps N [DEPTH]: makes N mappings of its own file, every second one
 * executable so that none can merge with its neighbour, uses DEPTH KB of stack
 * (default 64), then writes through a null pointer. With N of a few thousand the
 * record of this crash is larger than a small ring buffer.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0).
 * Chain: big_crash use_stack ... use_stack main. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "crash.h"

FRAME int big_crash(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

FRAME int use_stack(int kb)
{
	volatile char room[1024];

	for (int i = 0; i < 1024; i++)
		room[i] = (char)(i * kb);
	int y = kb > 1 ? use_stack(kb - 1) : big_crash(kb);
	KEEP_FRAME();
	return y + room[kb & 1023];
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 3000;
	int fd = open("/proc/self/exe", O_RDONLY);

	for (int i = 0; i < count; i++) {
		int prot = i % 2 ? PROT_READ : PROT_READ | PROT_EXEC;

		if (mmap(NULL, 4096, prot, MAP_PRIVATE, fd, 0) == MAP_FAILED) {
			perror("big_maps: mmap");
			return 1;
		}
	}
	int y = use_stack(argc > 2 ? atoi(argv[2]) : 64);
	KEEP_FRAME();
	return y & 1;
}
