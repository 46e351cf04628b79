#include "native/binding/engine_object.h"

#include "native/binding/convert.h"
#include "native/binding/devices.h"

namespace thalweg::binding {

namespace {

std::vector<std::vector<std::byte>> buffers(const Napi::Value& value) {
  std::vector<std::vector<std::byte>> out;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) out.push_back(copy_bytes(array[i], "program"));
  return out;
}

std::vector<engine::Program> decode_all(const std::vector<std::vector<std::byte>>& encoded,
                                        const engine::Layout& layout) {
  std::vector<engine::Program> programs;
  for (const auto& bytes : encoded) programs.push_back(engine::decode_program(bytes.data(), bytes.size(), layout));
  return programs;
}

Napi::Value report_object(Napi::Env env, const engine::PlayReport& report, bool profile) {
  auto out = Napi::Object::New(env);
  out.Set("seconds", report.seconds);
  if (!profile) return out;
  auto commands = Napi::Array::New(env, report.commands.size());
  for (size_t i = 0; i < report.commands.size(); i++) {
    auto item = Napi::Object::New(env);
    item.Set("label", report.commands[i].label);
    item.Set("op", report.commands[i].op);
    item.Set("seconds", report.commands[i].seconds);
    commands[static_cast<uint32_t>(i)] = item;
  }
  out.Set("profile", commands);
  return out;
}

/** One operand of runOp: { dtype: 0|1|2, shape, data }; data is written back in place. */
Tensor operand(const Napi::Object& object, std::vector<Napi::ObjectReference>& keep) {
  Tensor t;
  t.dtype = static_cast<DType>(object.Get("dtype").ToNumber().Uint32Value());
  const auto shape = object.Get("shape").As<Napi::Array>();
  if (shape.Length() > kMaxRank) fail("BAD_INPUT", "an operand has rank ", shape.Length(), ", at most ", kMaxRank);
  t.rank = static_cast<int>(shape.Length());
  for (int i = 0; i < t.rank; i++) t.shape[i] = Napi::Value(shape[static_cast<uint32_t>(i)]).ToNumber().Int64Value();
  const Napi::Value data = object.Get("data");
  const Bytes bytes = bytes_of(data, "operand");
  if (bytes.size != t.bytes())
    fail("BAD_INPUT", "an operand has ", bytes.size, " bytes of data, its shape ", t.bytes());
  t.data = bytes.data;
  keep.push_back(Napi::Persistent(data.As<Napi::Object>()));
  return t;
}

}  // namespace

Napi::Function EngineObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeEngine",
      {InstanceMethod<&EngineObject::info>("info"), InstanceMethod<&EngineObject::load>("load"),
       InstanceMethod<&EngineObject::attach>("attach"), InstanceMethod<&EngineObject::play>("play"),
       InstanceMethod<&EngineObject::write>("write"), InstanceMethod<&EngineObject::read>("read"),
       InstanceMethod<&EngineObject::initialize>("initialize"), InstanceMethod<&EngineObject::refresh>("refresh"),
       InstanceMethod<&EngineObject::snapshot>("snapshot"), InstanceMethod<&EngineObject::write_file>("writeFile"),
       InstanceMethod<&EngineObject::drop_snapshot>("dropSnapshot"),
       InstanceMethod<&EngineObject::load_file>("loadFile"), InstanceMethod<&EngineObject::drop_module>("dropModule"),
       InstanceMethod<&EngineObject::run_op>("runOp"), InstanceMethod<&EngineObject::cancel>("cancel"),
       InstanceMethod<&EngineObject::free_device>("freeDevice"),
       InstanceMethod<&EngineObject::finish_files>("finishFiles"), InstanceMethod<&EngineObject::close>("close")});
}

EngineObject::EngineObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EngineObject>(info) {
  guarded(info.Env(), [&] {
    backend_ = make_backend(info[0].ToString(), info[1].ToNumber().Int32Value());
    requests_ = std::make_unique<Requests>(info.Env());
    requests_->on_busy = [this](bool busy) { busy ? Ref() : Unref(); };
  });
}

Napi::Value EngineObject::info(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const engine::DeviceInfo device = backend_->info();
    auto out = Napi::Object::New(info.Env());
    out.Set("device", device.device);
    out.Set("name", device.name);
    out.Set("path", device.path);
    out.Set("threads", device.threads);
    out.Set("memoryBytes", static_cast<double>(device.memory_bytes));
    out.Set("deviceClass", device.device_class);
    return out;
  });
}

Napi::Promise EngineObject::on_module(std::unique_ptr<Request> request, uint32_t module,
                                      std::function<void(engine::DeviceModule&, const engine::Cancel&)> work) {
  request->work = [this, module, work = std::move(work)](const engine::Cancel& cancel) {
    const auto found = modules_.find(module);
    if (found == modules_.end()) fail("DISPOSED", "the module was disposed");
    work(*found->second, cancel);
  };
  return requests_->send(std::move(request), requests_->device);
}

Napi::Value EngineObject::load(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const uint32_t id = next_module_++;
    auto request = std::make_unique<Request>(info.Env());
    request->work = [this, id, layout_bytes = copy_bytes(info[0], "layout"),
                     encoded = buffers(info[1])](const engine::Cancel&) {
      engine::Layout layout = engine::decode_layout(layout_bytes.data(), layout_bytes.size());
      auto programs = decode_all(encoded, layout);
      modules_.emplace(id, backend_->load(std::move(layout), std::move(programs)));
    };
    request->result = [id](Napi::Env env) { return Napi::Number::New(env, id); };
    return requests_->send(std::move(request), requests_->device);
  });
}

Napi::Value EngineObject::attach(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return on_module(std::make_unique<Request>(info.Env()), info[0].ToNumber().Uint32Value(),
                     [encoded = buffers(info[1])](engine::DeviceModule& module, const engine::Cancel&) {
                       module.attach(decode_all(encoded, module.layout()));
                     });
  });
}

Napi::Value EngineObject::play(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto request = std::make_unique<Request>(info.Env());
    const bool profile = info[2].ToBoolean();
    request->id = info[3].ToNumber().DoubleValue();
    auto report = std::make_shared<engine::PlayReport>();
    request->result = [report, profile](Napi::Env env) { return report_object(env, *report, profile); };
    return on_module(
        std::move(request), info[0].ToNumber().Uint32Value(),
        [entries = play_entries(info[1]), profile, report](engine::DeviceModule& module, const engine::Cancel& cancel) {
          *report = module.play(entries, profile, cancel);
        });
  });
}

Napi::Value EngineObject::write(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return on_module(std::make_unique<Request>(info.Env()), info[0].ToNumber().Uint32Value(),
                     [name = info[1].ToString().Utf8Value(), data = copy_bytes(info[2], "data")](
                         engine::DeviceModule& module, const engine::Cancel&) {
                       const auto& tensor = module.layout().at(name);
                       if (data.size() > tensor.bytes)
                         fail("BAD_INPUT", "tensor ", name, " has ", tensor.bytes, " bytes, the data ", data.size());
                       module.write(tensor.offset, data.data(), data.size());
                     });
  });
}

Napi::Value EngineObject::read(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto request = std::make_unique<Request>(info.Env());
    const Bytes to = bytes_of(info[2], "data");
    request->keep.push_back(Napi::Persistent(info[2].As<Napi::Object>()));
    return on_module(std::move(request), info[0].ToNumber().Uint32Value(),
                     [name = info[1].ToString().Utf8Value(), to](engine::DeviceModule& module, const engine::Cancel&) {
                       const auto& tensor = module.layout().at(name);
                       if (to.size != tensor.bytes)
                         fail("BAD_INPUT", "tensor ", name, " has ", tensor.bytes, " bytes, the buffer ", to.size);
                       module.read(tensor.offset, to.data, to.size);
                     });
  });
}

Napi::Value EngineObject::initialize(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto spec = info[2].As<Napi::Object>();
    InitStream stream;
    const std::string kind = text_member(spec, "kind");
    stream.kind = kind == "constant" ? Init::Constant : kind == "normal" ? Init::Normal : Init::TruncatedNormal;
    stream.std = number_member(spec, "std");
    stream.value = number_member(spec, "value");
    stream.seed = static_cast<uint64_t>(number_member(spec, "seed"));
    stream.name_hash = fnv1a64(text_member(spec, "name"));
    const auto start = static_cast<int64_t>(number_member(spec, "rowStart"));
    const auto rows = static_cast<int64_t>(number_member(spec, "rows"));
    return on_module(std::make_unique<Request>(info.Env()), info[0].ToNumber().Uint32Value(),
                     [name = info[1].ToString().Utf8Value(), stream, start, rows](engine::DeviceModule& module,
                                                                                  const engine::Cancel&) {
                       const auto& tensor = module.layout().at(name);
                       if (tensor.dtype != DType::F32)
                         fail("BAD_INPUT", "tensor ", name, " is ", dtype_name(tensor.dtype),
                              ", only f32 can be initialized");
                       module.initialize(engine::row_range(tensor, start, rows), stream);
                     });
  });
}

Napi::Value EngineObject::refresh(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return on_module(std::make_unique<Request>(info.Env()), info[0].ToNumber().Uint32Value(),
                     [](engine::DeviceModule& module, const engine::Cancel&) { module.refresh(); });
  });
}

Napi::Value EngineObject::snapshot(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto request = std::make_unique<Request>(info.Env());
    auto holder = std::make_shared<std::shared_ptr<engine::Snapshot>>();
    request->result = [holder](Napi::Env env) -> Napi::Value {
      using Held = std::shared_ptr<engine::Snapshot>;
      return Napi::External<Held>::New(env, new Held(*holder), [](Napi::Env, Held* held) { delete held; });
    };
    return on_module(std::move(request), info[0].ToNumber().Uint32Value(),
                     [holder, names = texts(info[1])](engine::DeviceModule& module, const engine::Cancel&) {
                       *holder = std::make_shared<engine::Snapshot>(engine::take_snapshot(module, names));
                     });
  });
}

Napi::Value EngineObject::write_file(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto held = *info[0].As<Napi::External<std::shared_ptr<engine::Snapshot>>>().Data();
    if (!held) fail("DISPOSED", "the snapshot was disposed");
    auto request = std::make_unique<Request>(info.Env());
    auto bytes = std::make_shared<uint64_t>(0);
    request->result = [bytes](Napi::Env env) { return Napi::Number::New(env, static_cast<double>(*bytes)); };
    request->work = [held, bytes, path = info[1].ToString().Utf8Value(), rows = file_rows(info[2]),
                     metadata = text_map(info[3])](const engine::Cancel& cancel) {
      *bytes = engine::write_snapshot(*held, path, rows, metadata, cancel);
    };
    return requests_->send(std::move(request), requests_->files);
  });
}

Napi::Value EngineObject::drop_snapshot(Info info) {
  info[0].As<Napi::External<std::shared_ptr<engine::Snapshot>>>().Data()->reset();
  return info.Env().Undefined();
}

Napi::Value EngineObject::load_file(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return on_module(std::make_unique<Request>(info.Env()), info[0].ToNumber().Uint32Value(),
                     [path = info[1].ToString().Utf8Value(), rows = file_rows(info[2])](engine::DeviceModule& module,
                                                                                        const engine::Cancel& cancel) {
                       engine::load_file(module, path, rows, cancel);
                     });
  });
}

Napi::Value EngineObject::drop_module(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const uint32_t id = info[0].ToNumber().Uint32Value();
    auto request = std::make_unique<Request>(info.Env());
    request->work = [this, id](const engine::Cancel&) { modules_.erase(id); };
    return requests_->send(std::move(request), requests_->device);
  });
}

Napi::Value EngineObject::run_op(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto spec = info[0].As<Napi::Object>();
    auto request = std::make_unique<Request>(info.Env());
    auto call = std::make_shared<engine::OpCall>();
    call->command.op = text_member(spec, "op");
    call->command.label = "called alone";
    const auto operands = spec.Get("operands").As<Napi::Array>();
    for (uint32_t i = 0; i < operands.Length(); i++) {
      const Napi::Value item = operands[i];
      call->command.operands.push_back(item.IsNull() ? Tensor() : operand(item.As<Napi::Object>(), request->keep));
    }
    const auto attributes = spec.Get("attributes").As<Napi::Array>();
    for (uint32_t i = 0; i < attributes.Length(); i++)
      call->command.attributes.push_back(Napi::Value(attributes[i]).ToNumber().DoubleValue());
    call->step = step_inputs(spec);
    call->repeat = static_cast<int>(number_member(spec, "repeat"));
    call->packed = spec.Get("packed").ToBoolean();
    request->work = [this, call](const engine::Cancel& cancel) { backend_->run_op(*call, cancel); };
    request->result = [call](Napi::Env env) -> Napi::Value {
      auto seconds = Napi::Array::New(env, call->seconds.size());
      for (size_t i = 0; i < call->seconds.size(); i++) seconds[static_cast<uint32_t>(i)] = call->seconds[i];
      return seconds;
    };
    return requests_->send(std::move(request), requests_->device);
  });
}

Napi::Value EngineObject::cancel(Info info) {
  requests_->cancel(info[0].ToNumber().DoubleValue());
  return info.Env().Undefined();
}

/** Cancels what the device has under way or queued and frees its modules. */
Napi::Value EngineObject::free_device(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    requests_->cancel_device();
    auto request = std::make_unique<Request>(info.Env());
    request->always = true;
    request->work = [this](const engine::Cancel&) { modules_.clear(); };
    return requests_->send(std::move(request), requests_->device);
  });
}

/** Resolves when every file that is being written has come to its end. */
Napi::Value EngineObject::finish_files(Info info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto request = std::make_unique<Request>(info.Env());
    request->work = [](const engine::Cancel&) {};
    return requests_->send(std::move(request), requests_->files);
  });
}

Napi::Value EngineObject::close(Info info) {
  requests_->close();
  backend_.reset();
  return info.Env().Undefined();
}

}  // namespace thalweg::binding
