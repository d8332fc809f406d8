//! A pipeline, and what it is dispatched with.

use std::num::NonZeroU64;

use wgpu::{
    BindGroupEntry, BindGroupLayoutEntry, BindingResource, BindingType, BufferBinding,
    BufferBindingType, BufferUsages, ShaderStages,
};

/// How a shader uses a binding.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Read,
    Write,
}

/// What a shader knows as `Params`. The letters are what each makes of them.
#[derive(Clone, Copy, Default)]
pub(super) struct Params {
    pub first: u32,
    pub count: u32,
    pub columns: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub d: u32,
    pub more: [[u32; 4]; 5],
}

/// Bytes of them in a shader.
const PARAMS: u64 = 112;

/// Dispatches' parameters lie this far apart: no device asks for more.
const STRIDE: usize = 256;
/// Workgroups in the first dimension of a large dispatch; devices take 65535 at least.
const WIDE: u32 = 1 << 15;

/// One compute shader: binding 0 are its parameters, the others storage buffers.
pub(super) struct Kernel {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Kernel {
    pub fn new(device: &wgpu::Device, name: &str, source: &str, uses: &[Use]) -> Self {
        let entry = |binding: usize, ty, has_dynamic_offset| BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        };
        let mut entries = vec![entry(0, BufferBindingType::Uniform, true)];
        entries.extend(uses.iter().enumerate().map(|(i, u)| {
            let read_only = matches!(u, Use::Read);
            entry(i + 1, BufferBindingType::Storage { read_only }, false)
        }));
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(name),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(name),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Self { pipeline, layout }
    }

    /// These parameters and buffers, as the shader's bindings.
    pub fn bind(
        &self,
        device: &wgpu::Device,
        params: &wgpu::Buffer,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let params = BindingResource::Buffer(BufferBinding {
            buffer: params,
            offset: 0,
            size: NonZeroU64::new(PARAMS),
        });
        let mut entries = vec![BindGroupEntry { binding: 0, resource: params }];
        entries.extend((1..).zip(buffers).map(|(binding, buffer)| BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        }));
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &entries,
        })
    }

    /// So many workgroups, with the parameters at this place in their buffer.
    pub fn dispatch(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        group: &wgpu::BindGroup,
        params: usize,
        workgroups: u32,
    ) {
        if workgroups == 0 {
            return;
        }
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, group, &[(params * STRIDE) as u32]);
        let x = workgroups.min(WIDE);
        pass.dispatch_workgroups(x, workgroups.div_ceil(x), 1);
    }
}

/// Parameters as they lie in their buffer.
pub(super) fn params_bytes(params: &[Params]) -> Vec<u8> {
    let mut bytes = vec![0; params.len().max(1) * STRIDE];
    for (place, p) in bytes.chunks_exact_mut(STRIDE).zip(params) {
        let words = [p.first, p.count, p.columns, p.a, p.b, p.c, p.d];
        place[..28].copy_from_slice(&words_bytes(&words));
        place[32..PARAMS as usize].copy_from_slice(&words_bytes(p.more.as_flattened()));
    }
    bytes
}

/// A buffer of parameters.
pub(super) fn upload_params(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    params: &[Params],
) -> wgpu::Buffer {
    let bytes = params_bytes(params);
    let buffer = empty(device, "params", bytes.len() as u64, BufferUsages::UNIFORM);
    queue.write_buffer(&buffer, 0, &bytes);
    buffer
}

/// A storage buffer with these words; of one word at least.
pub(super) fn upload(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    name: &str,
    words: &[u32],
) -> wgpu::Buffer {
    let buffer = empty(device, name, words.len().max(1) as u64 * 4, BufferUsages::STORAGE);
    queue.write_buffer(&buffer, 0, &words_bytes(words));
    buffer
}

/// A buffer of zeros that can be written to and read back.
pub(super) fn empty(
    device: &wgpu::Device,
    name: &str,
    bytes: u64,
    usage: BufferUsages,
) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(name),
        // A task has 32 bytes: a binding is not to end in the middle of the first.
        size: bytes.max(32),
        usage: usage | BufferUsages::COPY_DST | BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    })
}

/// In the order of bytes that devices share with their host.
pub(super) fn words_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}
