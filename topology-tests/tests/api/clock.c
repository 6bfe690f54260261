/* A wall clock that can be made to jump, for one process: loaded before the C library (ld.so(8), LD_PRELOAD).
 *
 * Seconds to add stand as decimal text in the file named by CAMBRIC_TEST_CLOCK; it is read anew each time. Only
 * CLOCK_REALTIME jumps, as when somebody sets the clock of a machine: CLOCK_MONOTONIC never does (clock_gettime(2)).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void)
{
	const char *path = getenv("CAMBRIC_TEST_CLOCK");
	char text[32] = {0};
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return 0;
	ssize_t length = read(file, text, sizeof text - 1);
	close(file);
	return length > 0 ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = (int)syscall(SYS_clock_gettime, clock, now);
	if (result == 0 && clock == CLOCK_REALTIME)
		now->tv_sec += offset();
	return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	int result = (int)syscall(SYS_gettimeofday, now, zone);
	if (result == 0)
		now->tv_sec += offset();
	return result;
}

time_t time(time_t *out)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}
