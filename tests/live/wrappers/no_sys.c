/* no_sys PROGRAM ARGUMENT...: runs PROGRAM in a mount namespace of its own where
 * /sys is empty: no /sys/kernel/btf/vmlinux, no tracefs. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 2)
		return 126;
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/sys", "tmpfs", 0, NULL)) {
		perror("no_sys");
		return 126;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
