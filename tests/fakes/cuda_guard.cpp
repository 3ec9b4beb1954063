// Lets a torch that was built without CUDA follow shapes, types and devices of tensors that only say they are on a GPU.
// It would otherwise refuse, or abort, as soon as an operation switches to the device of its tensors.
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace c10 {
namespace impl {
C10_REGISTER_GUARD_IMPL(CUDA, NoOpDeviceGuardImpl<DeviceType::CUDA>)
}
}  // namespace c10
