/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether this is built for a sanitizer which must see all of memory and each switch of stacks. */
#pragma once

#if defined (__SANITIZE_ADDRESS__)
# define BELAY_WITH_ASAN
#endif
#if defined (__SANITIZE_THREAD__)
# define BELAY_WITH_TSAN
#endif
#ifdef __has_feature
# if __has_feature (address_sanitizer)
#  define BELAY_WITH_ASAN
# endif
# if __has_feature (thread_sanitizer)
#  define BELAY_WITH_TSAN
# endif
#endif
