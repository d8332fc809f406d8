/* The events that are compared: a u64; a u64 and 32 bytes; 256 bytes; 1 KiB. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER rb

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "./rb.h"

#if !defined(RB_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define RB_H

#include <stdint.h>
#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(rb, u64,
	LTTNG_UST_TP_ARGS(uint64_t, n),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(uint64_t, n, n))
)

LTTNG_UST_TRACEPOINT_EVENT(rb, u64b32,
	LTTNG_UST_TP_ARGS(uint64_t, n, const uint8_t *, bytes),
	LTTNG_UST_TP_FIELDS(
		lttng_ust_field_integer(uint64_t, n, n)
		lttng_ust_field_array(uint8_t, bytes, bytes, 32)
	)
)

LTTNG_UST_TRACEPOINT_EVENT(rb, b256,
	LTTNG_UST_TP_ARGS(const uint8_t *, bytes),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_array(uint8_t, bytes, bytes, 256))
)

LTTNG_UST_TRACEPOINT_EVENT(rb, b1024,
	LTTNG_UST_TP_ARGS(const uint8_t *, bytes),
	LTTNG_UST_TP_FIELDS(lttng_ust_field_array(uint8_t, bytes, bytes, 1024))
)

#endif

#include <lttng/tracepoint-event.h>
