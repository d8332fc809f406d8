use rbpipe_core::{channel::*, backend::*, class::*, frontend::*, clock};
use rbpipe_backends::pages::{Pages, Config};
use std::{sync::Arc, time::*, sync::atomic::*};
fn main(){
  let ctx=Context::new("x");
  for streams in [Streams::Single, Streams::PerThread(4), Streams::PerCpu] {
  for payload in [8usize,32,256,1024] {
    let classes=Arc::new(ClassRegistry::new());
    let c=classes.register(EventClass::new("a:b", vec![Field::new("x",FieldType::U64)])).unwrap();
    let plan=ChannelPlan{name:"t".into(),geometry:Geometry::new(1<<18,8,2,84).unwrap(),mode:Mode::Overwrite,classes};
    let b=Pages::open(Config{}, &plan,&ctx).unwrap();
    let o=ChannelOptions{plan,streams,block_timeout:None,switch_timer:None,read_timer:None,prefault:true};
    let ch=Channel::open(o,b).unwrap();
    let w=ch.writer();
    let data=vec![7u8;payload];
    let mut best=f64::MAX;
    for _ in 0..7 { let n=1_000_000; let t=Instant::now(); for _ in 0..n { w.record(c,&data).unwrap(); } best=best.min(t.elapsed().as_nanos() as f64/n as f64);}    
    println!("{streams:?} {payload}: {best:.1} ns  {:?}", ch.monitor().streams()[0].books.engine);
  }}
  let a=AtomicU64::new(0); let bb=AtomicU64::new(0);
  let mut best=f64::MAX;
  for _ in 0..7 {let n=1_000_000; let t=Instant::now(); for i in 0..n { let now=clock::now(); let o=a.load(Ordering::Acquire); let _=a.compare_exchange(o,o+12,Ordering::AcqRel,Ordering::Acquire); std::hint::black_box(now); bb.fetch_add(i,Ordering::AcqRel);} best=best.min(t.elapsed().as_nanos() as f64/n as f64);}    
  println!("parts {best:.1}");
  let mut best=f64::MAX;
  for _ in 0..7 {let n=1_000_000; let t=Instant::now(); for _ in 0..n { std::hint::black_box(clock::now()); } best=best.min(t.elapsed().as_nanos() as f64/n as f64);}    
  println!("clock {best:.1}");
  let t=Instant::now(); for _ in 0..1000000 { std::hint::black_box(rustix::thread::sched_getcpu()); } println!("getcpu {}", t.elapsed().as_nanos() as f64/1e6);
}
