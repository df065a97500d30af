// The parts of a CUDA build of torch that autograd asks for, doing nothing: a device guard with one
// device, and hooks that answer. It must be loaded before torch, which keeps what it finds first. A
// CUDA build has its own: these hooks are preferred, and `register_guard` is called after its import.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <optional>

namespace at {
struct CUDAHooks final : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
};
C10_REGISTER_CLASS_WITH_PRIORITY(CUDAHooksRegistry, CUDAHooks, c10::REGISTRY_PREFERRED, CUDAHooks)

namespace accelerator {
std::optional<c10::DeviceType> getAccelerator(bool) { return c10::DeviceType::CUDA; }
}  // namespace accelerator
}  // namespace at

namespace {
const c10::Device first{c10::DeviceType::CUDA, 0};
const c10::Stream only(c10::Stream::DEFAULT, first);

struct OneDevice final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  c10::Device exchangeDevice(c10::Device) const override { return first; }
  c10::Device getDevice() const override { return first; }
  c10::Stream getStream(c10::Device) const noexcept override { return only; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return only; }
};
}  // namespace

extern "C" void register_guard() {
  c10::impl::DeviceGuardImplRegistrar(c10::DeviceType::CUDA, new OneDevice());
}
